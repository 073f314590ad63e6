/*
 * queue work: runs a program for each job, a number of them at once.
 *
 * Each place for a job goes round through these states:
 *
 *     FREE ──a job came──▶ RUNNING ──the program ended──▶ ENDING ──the daemon knows──▶ FREE
 *
 * One reserve is out at a time, for as many jobs as there are free places. A wait that is out
 * stands for an empty queue, so that places which become free meanwhile lose nothing by it.
 *
 * The daemon may be away at any time. What is said about a job (extend, ack, nack) is said again
 * until it is answered: whatever was carried out before its reply was lost is answered
 * `not_found` or `stale_lease` then.
 */
#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bindings/cli/child.h"
#include "bindings/cli/commands.h"
#include "bindings/cli/json.h"

enum {
    WORK_DEFAULT_LEASE_MS = 30000,
    WORK_MAX_JOBS = 1000,
    WORK_WAIT_MS = 5000,    /* of one reserve */
    WORK_RETRY_MS = 1000,   /* after an answer that means: not now */
    WORK_GRACE_MS = 5000,   /* between SIGTERM and SIGKILL */
    WORK_EXTENSIONS = 3,    /* of a lease, in the time of one */
    WORK_ERROR_SIZE = 1024, /* what the protocol takes, and a zero */
    WORK_VARIABLE_SIZE = 2048,
};

enum place_state { FREE, RUNNING, ENDING };

struct place {
    struct worker *worker;
    enum place_state state;
    struct child child;
    uint64_t id;
    uint64_t lease;
    uint64_t deliveries;
    struct buffer queue;
    int64_t began_ms;
    int64_t extend_ms; /* RUNNING: when to extend the lease */
    bool asking;       /* a request about this job is out */
    bool lost;         /* somebody else has the job by now */
    bool gone;         /* nobody has it any more */
    bool stopped;      /* by us */
    int64_t kill_ms;   /* when SIGTERM was not enough; 0: it was not sent */
    unsigned reports;  /* ENDING: how often we have said so */
    int64_t report_ms; /* ENDING: say it not before */
    char error[WORK_ERROR_SIZE];
};

struct worker {
    struct session *session;
    struct cubby *cubby;
    struct cubby_bytes queues[ARGUMENTS_MAX_POSITIONAL];
    size_t queue_count;
    struct place *places;
    size_t place_count;
    struct pollfd *polls;
    int signals;
    uint64_t lease_ms;
    uint64_t left; /* jobs that may still be taken */
    bool waiting;  /* a reserve is out: `request` */
    uint64_t request;
    int64_t reserve_ms; /* do not reserve before */
    bool away;          /* it was said that the daemon does not answer */
    bool drain;         /* end when nothing is left */
    bool dry;           /* nothing was left when last asked, and no job of ours has ended since */
    unsigned stops;     /* signals to stop that came */
    enum status status;
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static size_t count_free(const struct worker *worker)
{
    size_t count = 0;
    for (size_t i = 0; i < worker->place_count; i++)
        count += worker->places[i].state == FREE;
    return count;
}

/* Whether an answer says nothing about the job, so that the question is asked again. */
static bool is_not_now(enum cubby_status status)
{
    return status == CUBBY_TIMEOUT || status == CUBBY_UNAVAILABLE || status == CUBBY_BUSY ||
           status == CUBBY_NO_MEMORY || status == CUBBY_STORAGE_FULL;
}

/* A timeout has taken its time already. */
static int64_t again_ms(enum cubby_status status)
{
    return now_ms() + (status == CUBBY_TIMEOUT ? 0 : WORK_RETRY_MS);
}

/* ---- What is told of a job ------------------------------------------------------------------ */

static int exit_status_of(const struct place *place)
{
    return WIFEXITED(place->child.status) ? WEXITSTATUS(place->child.status) : -1;
}

static int signal_of(const struct place *place)
{
    return WIFSIGNALED(place->child.status) ? WTERMSIG(place->child.status) : 0;
}

static void print_outcome_json(const struct place *place, const char *outcome)
{
    struct session *session = place->worker->session;
    char text[WORK_ERROR_SIZE];
    snprintf(text, sizeof(text), "{\"job\":%llu,\"queue\":", (unsigned long long)place->id);
    session_print_text(session, text);
    json_print_key(&session->out, buffer_slice(&place->queue, 0));
    snprintf(text, sizeof(text),
             ",\"deliveries\":%llu,\"outcome\":\"%s\",\"status\":%d,\"signal\":%d,\"ms\":%lld}\n",
             (unsigned long long)place->deliveries, outcome, exit_status_of(place),
             signal_of(place), (long long)(now_ms() - place->began_ms));
    session_print_text(session, text);
}

static void finish(struct place *place, const char *outcome)
{
    struct worker *worker = place->worker;
    struct session *session = worker->session;
    if (session_given(session, OPTION_JSON)) {
        print_outcome_json(place, outcome);
        if (session_write(session) != STATUS_OK)
            worker->status = STATUS_FAILED;
    }
    if (strcmp(outcome, "acked") != 0)
        fprintf(stderr, "cubby: job %llu of %.*s: %s: %s\n", (unsigned long long)place->id,
                (int)place->queue.size, (const char *)place->queue.data, place->error, outcome);
    child_clear(&place->child);
    place->state = FREE;
    worker->dry = false;
}

/* How the program ended, for a person: "exit status 3: no such user". */
static void describe_end(struct place *place)
{
    const struct child *child = &place->child;
    char how[64];
    if (place->stopped)
        snprintf(how, sizeof(how), "the worker was stopped");
    else if (signal_of(place) != 0)
        snprintf(how, sizeof(how), "killed by signal %d", signal_of(place));
    else
        snprintf(how, sizeof(how), "exit status %d", exit_status_of(place));
    int size = snprintf(place->error, sizeof(place->error), "%s", how);
    if (child->line_size == 0 || !wire_is_utf8(slice_of(child->line, child->line_size)))
        return;
    snprintf(place->error + size, sizeof(place->error) - (size_t)size, ": %.*s",
             (int)child->line_size, child->line);
}

/* ---- Ending a job --------------------------------------------------------------------------- */

static const char *outcome_of(const struct place *place, const struct cubby_reply *reply)
{
    enum cubby_job_state state;
    bool good = !place->stopped && place->child.status == 0;
    if (reply->status == CUBBY_NOT_FOUND)
        return good ? "acked" : "gone";
    if (reply->status == CUBBY_STALE_LEASE)
        return good || place->reports == 1 ? "lost" : "given back";
    if (reply->status != CUBBY_OK)
        return "unknown";
    if (good)
        return "acked";
    return cubby_read_nacked(reply->result, &state) == CUBBY_OK ? cubby_job_state_text(state)
                                                                : "given back";
}

static void on_reported(void *context, const struct cubby_reply *reply)
{
    struct place *place = context;
    place->asking = false;
    if (reply->status == CUBBY_CLOSED)
        return;
    if (is_not_now(reply->status) && place->worker->stops < 2) {
        place->report_ms = again_ms(reply->status);
        return;
    }
    const char *outcome = outcome_of(place, reply);
    if (strcmp(outcome, "unknown") == 0)
        fprintf(stderr, "cubby: job %llu: %s: %s\n", (unsigned long long)place->id,
                reply->error->code, reply->error->message);
    finish(place, outcome);
}

static void report(struct place *place)
{
    struct worker *worker = place->worker;
    const struct cubby_nack_options options = {
        .has_delay = place->stopped, .delay_ms = 0, .error = cubby_text(place->error)};
    enum cubby_status status;
    if (!place->stopped && place->child.status == 0)
        status =
            cubby_send_queue_ack(worker->cubby, place->id, place->lease, on_reported, place, NULL);
    else
        status = cubby_send_queue_nack(worker->cubby, place->id, place->lease, on_reported, place,
                                       &options);
    place->asking = status == CUBBY_OK;
    place->reports++;
    if (status != CUBBY_OK)
        place->report_ms = again_ms(status);
}

/* The program has ended. */
static void end_job(struct place *place)
{
    describe_end(place);
    if (place->lost || place->gone) {
        finish(place, place->lost ? "lost" : place->child.status == 0 ? "acked" : "gone");
        return;
    }
    place->state = ENDING;
    place->reports = 0;
    place->report_ms = 0;
}

/* ---- Running -------------------------------------------------------------------------------- */

static void terminate(struct place *place)
{
    if (place->kill_ms != 0)
        return;
    child_signal(&place->child, SIGTERM);
    place->kill_ms = now_ms() + WORK_GRACE_MS;
}

/*
 * A stale lease means that another worker has the job: two of them must not go on. A job that is
 * gone was ended by the program itself, in a batch of its own, or removed: it may finish.
 */
static void on_extended(void *context, const struct cubby_reply *reply)
{
    struct place *place = context;
    place->asking = false;
    if (place->state != RUNNING)
        return;
    if (reply->status == CUBBY_STALE_LEASE) {
        place->lost = true;
        terminate(place);
    } else if (reply->status == CUBBY_NOT_FOUND) {
        place->gone = true;
    } else if (reply->status != CUBBY_OK) {
        place->extend_ms = again_ms(reply->status);
    }
}

static void extend(struct place *place, int64_t now)
{
    struct worker *worker = place->worker;
    enum cubby_status status = cubby_send_queue_extend(worker->cubby, place->id, place->lease,
                                                       worker->lease_ms, on_extended, place, NULL);
    place->asking = status == CUBBY_OK;
    place->extend_ms = now + (int64_t)(worker->lease_ms / WORK_EXTENSIONS);
}

static bool extends(const struct place *place)
{
    return place->state == RUNNING && !place->asking && !place->lost && !place->gone &&
           !place->stopped;
}

static void work_on(struct place *place, int64_t now)
{
    child_work(&place->child);
    bool ended = child_has_ended(&place->child) || place->child.pid == 0;
    if (place->state == RUNNING && ended && !place->asking)
        end_job(place);
    if (place->kill_ms != 0 && now >= place->kill_ms)
        child_signal(&place->child, SIGKILL);
    if (extends(place) && now >= place->extend_ms)
        extend(place, now);
    if (place->state == ENDING && !place->asking && now >= place->report_ms)
        report(place);
}

/* ---- Beginning a job ------------------------------------------------------------------------ */

static enum status pack_body(const struct session *session, struct buffer *out,
                             struct cubby_bytes body)
{
    struct cubby_bytes bytes;
    if (session_given(session, OPTION_MSGPACK)) {
        buffer_append(out, body.data, body.size);
    } else if (cubby_as_bytes(body, &bytes)) {
        buffer_append(out, bytes.data, bytes.size);
    } else {
        json_print(out, session_slice(body));
        buffer_append(out, "\n", 1);
    }
    return out->failed ? STATUS_FAILED : STATUS_OK;
}

static int start_program(struct place *place, const struct cubby_job *job)
{
    const struct session *session = place->worker->session;
    const char *connect = session->arguments->options[OPTION_CONNECT].text;
    char texts[5][WORK_VARIABLE_SIZE];
    const char *variables[6] = {texts[0], texts[1], texts[2], texts[3], texts[4], NULL};
    snprintf(texts[0], WORK_VARIABLE_SIZE, "CUBBY_JOB_ID=%llu", (unsigned long long)job->id);
    snprintf(texts[1], WORK_VARIABLE_SIZE, "CUBBY_LEASE=%llu", (unsigned long long)job->lease);
    snprintf(texts[2], WORK_VARIABLE_SIZE, "CUBBY_DELIVERIES=%llu",
             (unsigned long long)job->deliveries);
    snprintf(texts[3], WORK_VARIABLE_SIZE, "CUBBY_QUEUE=%.*s", (int)job->queue.size,
             (const char *)job->queue.data);
    if (connect != NULL)
        snprintf(texts[4], WORK_VARIABLE_SIZE, "CUBBY_ENDPOINT=%s", connect);
    else
        variables[4] = NULL;
    return child_start(&place->child, session->arguments->program, variables);
}

static void begin_job(struct place *place, const struct cubby_job *job)
{
    struct worker *worker = place->worker;
    int64_t now = now_ms();
    struct child child = place->child;
    struct buffer queue = place->queue;
    *place = (struct place){.worker = worker,
                            .state = RUNNING,
                            .child = child,
                            .queue = queue,
                            .id = job->id,
                            .lease = job->lease,
                            .deliveries = job->deliveries,
                            .began_ms = now,
                            .extend_ms = now + (int64_t)(worker->lease_ms / WORK_EXTENSIONS)};
    buffer_clear(&place->queue);
    buffer_append(&place->queue, job->queue.data, job->queue.size);
    if (pack_body(worker->session, &place->child.body, job->body) == STATUS_OK &&
        start_program(place, job) == 0)
        return;
    snprintf(place->error, sizeof(place->error), "cannot be started: %s", strerror(errno));
    place->child.status = -1;
    place->state = ENDING;
}

static void begin_jobs(struct worker *worker, const struct cubby_jobs *jobs)
{
    size_t next = 0;
    for (size_t i = 0; i < worker->place_count && next < jobs->count; i++) {
        if (worker->places[i].state == FREE)
            begin_job(&worker->places[i], &jobs->jobs[next++]);
    }
    worker->left -= worker->left < next ? worker->left : next;
}

/* ---- Reserving ------------------------------------------------------------------------------ */

static void on_jobs(void *context, const struct cubby_reply *reply)
{
    struct worker *worker = context;
    struct cubby_jobs *jobs = NULL;
    enum cubby_status status = reply->status;
    worker->waiting = false;
    if (status == CUBBY_CLOSED)
        return;
    if (status == CUBBY_OK)
        status = cubby_read_jobs(reply->result, &jobs);
    if (status == CUBBY_OK) {
        worker->away = false;
        worker->dry = jobs->count == 0;
        begin_jobs(worker, jobs);
        cubby_jobs_free(&jobs);
    } else if (is_not_now(status)) {
        if (!worker->away)
            fprintf(stderr, "cubby: %s: trying on\n",
                    reply->error != NULL ? reply->error->message : cubby_status_text(status));
        worker->away = true;
        worker->reserve_ms = again_ms(status);
    } else {
        fprintf(stderr, "cubby: %s: %s\n", cubby_status_text(status),
                reply->error != NULL ? reply->error->message : "the reply is not understood");
        worker->status = STATUS_REFUSED;
    }
}

/* Whether nothing is to be begun any more. */
static bool is_ending(const struct worker *worker)
{
    return worker->stops > 0 || worker->left == 0 || worker->status != STATUS_OK;
}

static void reserve(struct worker *worker, int64_t now)
{
    size_t count = count_free(worker);
    if (worker->waiting || count == 0 || is_ending(worker) || now < worker->reserve_ms ||
        (worker->drain && worker->dry))
        return;
    if (count > worker->left)
        count = (size_t)worker->left;
    const struct cubby_reserve_options options = {.count = (uint32_t)count,
                                                  .lease_ms = worker->lease_ms,
                                                  .wait_ms = worker->drain ? 0 : WORK_WAIT_MS};
    worker->waiting =
        cubby_send_queue_reserve(worker->cubby, worker->queues, worker->queue_count, on_jobs,
                                 worker, &worker->request, &options) == CUBBY_OK;
    if (!worker->waiting)
        worker->reserve_ms = now + WORK_RETRY_MS;
}

/* ---- Stopping ------------------------------------------------------------------------------- */

/* Whatever is answered: the reserve was, before, or is not worth waiting for. */
static void on_cancelled(void *context, const struct cubby_reply *reply)
{
    struct worker *worker = context;
    if (reply->status != CUBBY_CLOSED)
        worker->waiting = false;
}

static void cancel_wait(struct worker *worker)
{
    const struct cubby_call_options options = {.timeout_ms = WORK_RETRY_MS};
    struct cubby_buffer params = {0};
    cubby_pack_array(&params, 1);
    cubby_pack_uint(&params, worker->request);
    if (cubby_send(worker->cubby, "queue.cancel", cubby_buffer_bytes(&params), on_cancelled, worker,
                   &options) != CUBBY_OK)
        worker->waiting = false;
    cubby_buffer_free(&params);
}

/* First: nothing new. Second: what runs is terminated and given back. Third: at once. */
static void stop(struct worker *worker)
{
    worker->stops++;
    if (worker->stops == 1 && worker->waiting)
        cancel_wait(worker);
    for (size_t i = 0; i < worker->place_count && worker->stops > 1; i++) {
        struct place *place = &worker->places[i];
        if (place->state != RUNNING)
            continue;
        place->stopped = true;
        terminate(place);
        if (worker->stops > 2)
            place->kill_ms = now_ms();
    }
}

/* That a child has ended is seen by asking. */
static void take_signals(struct worker *worker)
{
    struct signalfd_siginfo info;
    while (read(worker->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo != SIGCHLD)
            stop(worker);
    }
}

/* ---- The loop ------------------------------------------------------------------------------- */

static int64_t next_due_ms(const struct place *place)
{
    int64_t due = INT64_MAX;
    if (extends(place))
        due = place->extend_ms;
    if (place->state == ENDING && !place->asking)
        due = place->report_ms;
    if (place->kill_ms != 0 && place->child.pid != 0 && place->kill_ms < due)
        due = place->kill_ms;
    return due;
}

static int wait_time(const struct worker *worker, int64_t now)
{
    int64_t client_ms = cubby_wait_ms(worker->cubby);
    int64_t due = client_ms < 0 ? INT64_MAX : now + client_ms;
    if (!worker->waiting && !is_ending(worker) && worker->reserve_ms > now &&
        worker->reserve_ms < due)
        due = worker->reserve_ms;
    for (size_t i = 0; i < worker->place_count; i++) {
        int64_t own = next_due_ms(&worker->places[i]);
        due = own < due ? own : due;
    }
    if (due == INT64_MAX || due - now > WORK_WAIT_MS)
        return WORK_WAIT_MS;
    return due > now ? (int)(due - now) : 0;
}

static void wait_for_news(struct worker *worker)
{
    size_t count = 2;
    worker->polls[0] = (struct pollfd){.fd = worker->signals, .events = POLLIN};
    worker->polls[1] = (struct pollfd){.fd = cubby_fd(worker->cubby), .events = POLLIN};
    for (size_t i = 0; i < worker->place_count; i++)
        count += child_polls(&worker->places[i].child, worker->polls + count);
    poll(worker->polls, (nfds_t)count, wait_time(worker, now_ms()));
}

static void begin_round(struct worker *worker)
{
    int64_t now = now_ms();
    take_signals(worker);
    for (size_t i = 0; i < worker->place_count; i++)
        work_on(&worker->places[i], now);
    reserve(worker, now);
}

static bool is_done(const struct worker *worker)
{
    bool idle = count_free(worker) == worker->place_count && !worker->waiting;
    return idle && (is_ending(worker) || (worker->drain && worker->dry));
}

/* Waits only after a round that found nothing, as cubby_fd wants it. */
static enum status run(struct worker *worker)
{
    for (;;) {
        int events;
        do {
            begin_round(worker);
            events = cubby_poll(worker->cubby, 0);
        } while (events > 0);
        if (events < 0)
            return session_fail(worker->session);
        if (is_done(worker))
            return worker->status;
        wait_for_news(worker);
    }
}

/* ---- The command ---------------------------------------------------------------------------- */

static enum status read_options(struct worker *worker)
{
    const struct arguments *arguments = worker->session->arguments;
    uint64_t jobs = arguments_number(arguments, OPTION_JOBS, 1);
    worker->lease_ms = arguments_number(arguments, OPTION_LEASE, WORK_DEFAULT_LEASE_MS);
    worker->left = arguments_number(arguments, OPTION_LIMIT, UINT64_MAX);
    worker->drain = arguments->options[OPTION_DRAIN].given;
    worker->place_count = (size_t)jobs;
    worker->queue_count = (size_t)arguments->positional_count;
    for (size_t i = 0; i < worker->queue_count; i++)
        worker->queues[i] = cubby_text(arguments->positional[i]);
    if (arguments->program == NULL || arguments->program[0] == NULL)
        return session_misused("queue work", "a COMMAND is missing behind --");
    if (!child_can_run(arguments->program[0]))
        return session_misused("no such program", arguments->program[0]);
    if (jobs < 1 || jobs > WORK_MAX_JOBS)
        return session_out_of_range(worker->session, OPTION_JOBS, 1, WORK_MAX_JOBS);
    if (worker->lease_ms < 1 || worker->lease_ms > WIRE_MAX_DURATION_MS)
        return session_out_of_range(worker->session, OPTION_LEASE, 1, WIRE_MAX_DURATION_MS);
    return STATUS_OK;
}

static enum status open_worker(struct worker *worker)
{
    sigset_t set;
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    worker->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    worker->places = calloc(worker->place_count, sizeof(*worker->places));
    worker->polls = calloc(2 + worker->place_count * CHILD_POLLS, sizeof(*worker->polls));
    for (size_t i = 0; worker->places != NULL && i < worker->place_count; i++)
        worker->places[i].worker = worker;
    if (worker->signals >= 0 && worker->places != NULL && worker->polls != NULL &&
        cubby_fd(worker->cubby) >= 0)
        return STATUS_OK;
    fprintf(stderr, "cubby: queue work cannot start: %s\n", strerror(errno));
    return STATUS_FAILED;
}

/* The handle is closed first: it may still call back. */
static void close_worker(struct worker *worker)
{
    cubby_close(&worker->session->cubby);
    for (size_t i = 0; worker->places != NULL && i < worker->place_count; i++) {
        child_free(&worker->places[i].child);
        buffer_free(&worker->places[i].queue);
    }
    if (worker->signals >= 0)
        close(worker->signals);
    free(worker->places);
    free(worker->polls);
}

enum status command_queue_work(struct session *session)
{
    struct worker worker = {.session = session, .cubby = session->cubby, .signals = -1};
    enum status status = read_options(&worker);
    if (status == STATUS_OK)
        status = open_worker(&worker);
    if (status == STATUS_OK)
        status = run(&worker);
    close_worker(&worker);
    return status;
}

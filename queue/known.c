#include "queue/known.h"

static const char *const list_names[LISTS] = {
    [LIST_READY] = "ready",        [LIST_DELAYED] = "delayed",   [LIST_LEASED] = "leased",
    [LIST_DEAD] = "dead",          [LIST_EXPIRING] = "expiring", [LIST_WINDOWS] = "windows",
    [LIST_RANKED] = "by priority",
};

const char *known_list_name(enum list kind)
{
    return list_names[kind];
}

void known_free(struct known *known)
{
    buffer_free(&known->queues);
    buffer_free(&known->lists);
    buffer_free(&known->names);
}

bool known_failed(const struct known *known)
{
    return known->queues.failed || known->lists.failed || known->names.failed;
}

void known_add_queue(struct known *known, struct slice name, const struct queue_fields *fields)
{
    struct known_queue queue = {.number = fields->number,
                                .name_at = known->names.size,
                                .name_size = name.size,
                                .fields = *fields};
    buffer_append_slice(&known->names, name);
    buffer_append(&known->queues, &queue, sizeof queue);
    for (enum list kind = 0; kind < LISTS; kind++) {
        struct known_list list = {fields->lists[kind], fields->number, kind, false};
        buffer_append(&known->lists, &list, sizeof list);
    }
}

void known_add_left(struct known *known, uint64_t number, enum list kind, uint64_t queue)
{
    struct known_list list = {number, queue, kind, true};
    buffer_append(&known->lists, &list, sizeof list);
}

static int compare(uint64_t left, uint64_t right)
{
    return (left > right) - (left < right);
}

static int compare_queues(const void *a, const void *b)
{
    const struct known_queue *left = a;
    const struct known_queue *right = b;
    int order = compare(left->number, right->number);
    return order != 0 ? order : compare(left->name_at, right->name_at);
}

static int compare_lists(const void *a, const void *b)
{
    const struct known_list *left = a;
    const struct known_list *right = b;
    int order = compare(left->number, right->number);
    if (order == 0)
        order = compare(left->left, right->left);
    if (order == 0)
        order = compare(left->queue, right->queue);
    return order != 0 ? order : compare(left->kind, right->kind);
}

/* Of both: they begin with their number. */
static int compare_numbers(const void *a, const void *b)
{
    uint64_t left;
    uint64_t right;
    memcpy(&left, a, sizeof left);
    memcpy(&right, b, sizeof right);
    return compare(left, right);
}

struct known_queue *known_queues(const struct known *known, size_t *count)
{
    *count = known->queues.size / sizeof(struct known_queue);
    return (struct known_queue *)(void *)known->queues.data;
}

struct known_list *known_lists(const struct known *known, size_t *count)
{
    *count = known->lists.size / sizeof(struct known_list);
    return (struct known_list *)(void *)known->lists.data;
}

void known_sort(struct known *known)
{
    size_t count;
    struct known_queue *queues = known_queues(known, &count);
    if (count > 0)
        qsort(queues, count, sizeof *queues, compare_queues);
    struct known_list *lists = known_lists(known, &count);
    if (count > 0)
        qsort(lists, count, sizeof *lists, compare_lists);
}

struct known_queue *known_queue(const struct known *known, uint64_t number)
{
    size_t count;
    struct known_queue *queues = known_queues(known, &count);
    return count > 0 ? bsearch(&number, queues, count, sizeof *queues, compare_numbers) : NULL;
}

const struct known_list *known_list(const struct known *known, uint64_t number)
{
    size_t count;
    const struct known_list *lists = known_lists(known, &count);
    return count > 0 ? bsearch(&number, lists, count, sizeof *lists, compare_numbers) : NULL;
}

struct slice known_name(const struct known *known, const struct known_queue *queue)
{
    return slice_of(known->names.data + queue->name_at, queue->name_size);
}

void known_insert_list(struct known *known, struct known_list list)
{
    size_t count;
    buffer_append(&known->lists, &list, sizeof list);
    struct known_list *lists = known_lists(known, &count);
    if (known->lists.failed)
        return;
    size_t at = count - 1;
    for (; at > 0 && compare_lists(&list, &lists[at - 1]) < 0; at--)
        lists[at] = lists[at - 1];
    lists[at] = list;
}

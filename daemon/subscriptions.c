#include "daemon/subscriptions.h"

#include "wire/limits.h"

enum {
    SUBSCRIBE = 1, /* first byte of what a subscriber sends; 0 takes it back */
    MAX_TOPIC = 1 + WIRE_MAX_KEY,
    OVERHEAD =
        sizeof(struct prefix) + sizeof(struct prefix *), /* what one takes beside its bytes */
};

void subscriptions_init(struct subscriptions *subscriptions, uint64_t seed)
{
    *subscriptions = (struct subscriptions){.bytes = 0};
    prefixes_init(&subscriptions->topics, seed);
}

void subscriptions_free(struct subscriptions *subscriptions)
{
    prefixes_free(&subscriptions->topics);
}

static void count(uint64_t *count, bool more)
{
    if (more)
        ++*count;
    else if (*count > 0)
        --*count;
}

static void add(struct subscriptions *subscriptions, struct slice topic)
{
    if (subscriptions->bytes + OVERHEAD + topic.size > SUBSCRIPTIONS_MAX_BYTES ||
        prefixes_add(&subscriptions->topics, topic) == NULL)
        subscriptions->unknown++;
    else
        subscriptions->bytes += OVERHEAD + topic.size;
}

static void take_back(struct subscriptions *subscriptions, struct slice topic)
{
    struct prefix *known = prefixes_find(&subscriptions->topics, topic);
    if (known == NULL) {
        count(&subscriptions->unknown, false);
        return;
    }
    prefixes_remove(&subscriptions->topics, known);
    subscriptions->bytes -= OVERHEAD + topic.size;
}

/* A topic that is in doubt has this as its `user`. */
static char doubt;

/* XPUB says that a topic is wanted when nobody wanted it before, so that a doubt was right. */
static bool ends_doubt(const struct subscriptions *subscriptions, struct slice topic)
{
    struct prefix *known = prefixes_find(&subscriptions->topics, topic);
    if (known == NULL || known->user != &doubt)
        return false;
    known->user = NULL;
    return true;
}

static void put_in_doubt(const struct subscriptions *subscriptions, struct slice topic)
{
    struct prefix *known = prefixes_find(&subscriptions->topics, topic);
    if (known != NULL)
        known->user = &doubt;
}

static void count_topic(struct subscriptions *subscriptions, struct slice topic, bool more)
{
    if (topic.size == 0 || topic.data[0] == TOPIC_CHANGE)
        count(&subscriptions->changes, more);
    if (topic.size == 0 || topic.data[0] == TOPIC_QUEUE)
        count(&subscriptions->queues, more);
}

static bool may_be_sent(struct slice topic)
{
    return topic.size == 0 || (topic.size <= MAX_TOPIC &&
                               (topic.data[0] == TOPIC_CHANGE || topic.data[0] == TOPIC_QUEUE));
}

void subscriptions_note(struct subscriptions *subscriptions, struct slice message, bool certain)
{
    if (message.size == 0 || message.data[0] > SUBSCRIBE)
        return;
    bool more = message.data[0] == SUBSCRIBE;
    struct slice topic = slice_of(message.data + 1, message.size - 1);
    if (!may_be_sent(topic) || (more && ends_doubt(subscriptions, topic)))
        return;
    if (!more && !certain) {
        put_in_doubt(subscriptions, topic);
        return;
    }
    count_topic(subscriptions, topic, more);
    if (more)
        add(subscriptions, topic);
    else
        take_back(subscriptions, topic);
}

bool subscriptions_want(const struct subscriptions *subscriptions, struct slice topic)
{
    struct prefix_walk walk = prefixes_walk(&subscriptions->topics, topic);
    return subscriptions->unknown > 0 || prefixes_next(&walk) != NULL;
}

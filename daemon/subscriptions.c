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

void subscriptions_note(struct subscriptions *subscriptions, struct slice message)
{
    if (message.size == 0 || message.data[0] > SUBSCRIBE)
        return;
    bool more = message.data[0] == SUBSCRIBE;
    struct slice topic = slice_of(message.data + 1, message.size - 1);
    bool changes = topic.size == 0 || topic.data[0] == TOPIC_CHANGE;
    bool queues = topic.size == 0 || topic.data[0] == TOPIC_QUEUE;
    if (topic.size > MAX_TOPIC || (!changes && !queues))
        return;
    if (changes)
        count(&subscriptions->changes, more);
    if (queues)
        count(&subscriptions->queues, more);
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

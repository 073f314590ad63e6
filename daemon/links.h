/*
 * Lists whose links are in their members. A list is a link of its own that goes round to itself;
 * so does a member that is in no list.
 */
#ifndef DAEMON_LINKS_H
#define DAEMON_LINKS_H

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *previous;
    struct link *next;
};

/* The struct of this type whose member `member` the link is. */
#define link_owner(link, type, member) ((type *)((char *)(link)-offsetof(type, member)))

static inline void link_init(struct link *link)
{
    link->previous = link->next = link;
}

/* Of a list: it has no members. Of a member: it is in no list. */
static inline bool link_is_alone(const struct link *link)
{
    return link->next == link;
}

static inline void link_remove(struct link *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
    link_init(link);
}

/* Puts it at the list's end; it leaves the list that it is in. */
static inline void link_append(struct link *list, struct link *link)
{
    link_remove(link);
    link->previous = list->previous;
    link->next = list;
    list->previous->next = link;
    list->previous = link;
}

#endif

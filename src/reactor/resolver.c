/* getaddrinfo(3) and getnameinfo(3), which block, on a few threads of the reactor's own.
 *
 * A look-up cannot be interrupted, so nobody ever waits for one: threads are detached, and what they touch is counted
 * and outlives the reactor while they are in it. A query's link to its owner is the reactor thread's alone; a thread
 * only fills in the answer and posts the query to the inbox. */
#include "internal.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_THREADS = 4 };

typedef struct corolla_query {
    corolla_resolve *owner;            /* borrowed; NULL when cancelled. The reactor's thread only */
    corolla_resolver *resolver;        /* borrowed: of the reactor's thread; NULL once that is closed */
    struct corolla_query *prev, *next; /* among all that are not answered; the reactor's thread only */
    struct corolla_query *behind;      /* in the line for a thread; under the resolver's lock */
    bool by_name;                      /* getaddrinfo, else getnameinfo */
    /* question */
    char *host, *service; /* owned, or NULL */
    struct addrinfo hints;
    bool hinted;
    struct sockaddr_storage addr;
    socklen_t addrlen;
    int flags;
    /* answer */
    int error, sys_errno;
    struct addrinfo *result; /* owned */
    char host_found[NI_MAXHOST], service_found[NI_MAXSERV];
} corolla_query;

struct corolla_resolver {
    atomic_size_t refs;     /* the reactor's and one for each thread */
    corolla_inbox *inbox;   /* counted */
    corolla_query *queries; /* all not answered; the reactor's thread only */
    pthread_mutex_t lock;   /* guards the rest */
    pthread_cond_t work;
    corolla_query *first, *last; /* in line for a thread */
    unsigned threads, idle;
    bool closed;
};

/* ---- Queries ------------------------------------------------------------------------------- */

static void
query_free(corolla_query *query)
{
    if (query == NULL) {
        return;
    }
    if (query->result != NULL) {
        freeaddrinfo(query->result);
    }
    free(query->host);
    free(query->service);
    free(query);
}

/* Takes it off the list of all and away from its owner. */
static void
query_detach(corolla_query *query)
{
    if (query->owner != NULL) {
        query->owner->query = NULL;
        query->owner = NULL;
    }
    corolla_resolver *resolver = query->resolver;
    if (resolver == NULL) {
        return;
    }
    query->resolver = NULL;
    if (query->prev != NULL) {
        query->prev->next = query->next;
    }
    else {
        resolver->queries = query->next;
    }
    if (query->next != NULL) {
        query->next->prev = query->prev;
    }
}

static void
query_ask(corolla_query *query)
{
    errno = 0;
    if (query->by_name) {
        query->error = getaddrinfo(query->host, query->service, query->hinted ? &query->hints : NULL, &query->result);
    }
    else {
        query->error =
            getnameinfo((struct sockaddr *)&query->addr, query->addrlen, query->host_found, sizeof query->host_found,
                        query->service_found, sizeof query->service_found, query->flags);
    }
    query->sys_errno = query->error == EAI_SYSTEM ? errno : 0;
    if (query->error != 0) {
        query->result = NULL;
    }
}

static bool
is_number(const char *text)
{
    for (; *text != '\0'; text++) {
        if (!isdigit((unsigned char)*text)) {
            return false;
        }
    }
    return true;
}

/* Answers on the spot what needs neither a server nor a file. */
static bool
query_ask_at_once(corolla_query *query)
{
    if (!query->by_name) {
        const int numeric = NI_NUMERICHOST | NI_NUMERICSERV;
        if ((query->flags & numeric) != numeric) {
            return false;
        }
        query_ask(query);
        return true;
    }
    if (query->service != NULL && !is_number(query->service)) {
        return false;
    }
    if (query->host == NULL) {
        query_ask(query);
        return true;
    }
    bool hinted = query->hinted;
    int flags = query->hints.ai_flags;
    if (!hinted) {
        query->hints.ai_flags = AI_V4MAPPED | AI_ADDRCONFIG; /* what no hints mean */
    }
    query->hinted = true;
    query->hints.ai_flags |= AI_NUMERICHOST;
    query_ask(query);
    query->hinted = hinted;
    query->hints.ai_flags = flags;
    return query->error != EAI_NONAME;
}

int
corolla_resolver_answer(void *arg)
{
    corolla_query *query = arg;
    corolla_resolve *q = query->owner;
    query_detach(query);
    if (q == NULL) {
        query_free(query);
        return 0;
    }
    q->error = query->error;
    q->sys_errno = query->sys_errno;
    q->result = query->result;
    query->result = NULL;
    memcpy(q->host, query->host_found, sizeof q->host);
    memcpy(q->service, query->service_found, sizeof q->service);
    query_free(query);
    return q->done(q);
}

void
corolla_resolver_discard(void *arg)
{
    query_detach(arg);
    query_free(arg);
}

/* ---- Threads ------------------------------------------------------------------------------- */

static void
resolver_unref(corolla_resolver *resolver)
{
    if (atomic_fetch_sub_explicit(&resolver->refs, 1, memory_order_acq_rel) == 1) {
        corolla_inbox_unref(resolver->inbox);
        pthread_cond_destroy(&resolver->work);
        pthread_mutex_destroy(&resolver->lock);
        free(resolver);
    }
}

/* True in a child that was forked from the reactor's process: it has none of the threads, of which one may have held the
 * resolver's lock. */
static bool
is_inherited(const corolla_inbox *inbox)
{
    return inbox->forks != corolla_fork_count();
}

/* Hands the answer in. Only a closed inbox refuses for good: without memory, try until there is some. */
static void
hand_in(corolla_resolver *resolver, corolla_query *query)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    int err;
    while ((err = corolla_inbox_post(resolver->inbox, corolla_resolver_answer, query)) < 0 && err != -ESHUTDOWN &&
           err != -ECHILD) {
        nanosleep(&pause, NULL);
    }
    if (err < 0) {
        query_free(query); /* the reactor has closed and let go of it */
    }
}

static void *
work(void *arg)
{
    corolla_resolver *resolver = arg;
    pthread_mutex_lock(&resolver->lock);
    for (;;) {
        while (resolver->first == NULL && !resolver->closed) {
            resolver->idle++;
            pthread_cond_wait(&resolver->work, &resolver->lock);
            resolver->idle--;
        }
        if (resolver->closed) {
            break;
        }
        corolla_query *query = resolver->first;
        resolver->first = query->behind;
        if (resolver->first == NULL) {
            resolver->last = NULL;
        }
        pthread_mutex_unlock(&resolver->lock);
        query_ask(query);
        hand_in(resolver, query);
        pthread_mutex_lock(&resolver->lock);
    }
    pthread_mutex_unlock(&resolver->lock);
    resolver_unref(resolver);
    return NULL;
}

/* Under the lock. Threads take no signals: those are for the program's own. */
static int
start_thread(corolla_resolver *resolver)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all);
    int err = pthread_attr_init(&attributes);
    if (err != 0) {
        return -err;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    atomic_fetch_add(&resolver->refs, 1);
    err = pthread_create(&thread, &attributes, work, resolver);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (err != 0) {
        atomic_fetch_sub(&resolver->refs, 1);
        return -err;
    }
    resolver->threads++;
    return 0;
}

static int
resolver_new(corolla_reactor *r)
{
    if (r->resolver != NULL) {
        return 0;
    }
    corolla_resolver *resolver = calloc(1, sizeof *resolver);
    if (resolver == NULL) {
        return -ENOMEM;
    }
    atomic_init(&resolver->refs, 1);
    resolver->inbox = corolla_inbox_ref(r->inbox);
    pthread_mutex_init(&resolver->lock, NULL);
    pthread_cond_init(&resolver->work, NULL);
    r->resolver = resolver;
    return 0;
}

/* Puts the query in line for a thread, and sees that there is one. */
static int
resolver_enqueue(corolla_resolver *resolver, corolla_query *query)
{
    int err = 0;
    pthread_mutex_lock(&resolver->lock);
    bool waiting = resolver->first != NULL; /* the idle ones are called already */
    if ((resolver->idle == 0 || waiting) && resolver->threads < MOST_THREADS) {
        err = start_thread(resolver);
        if (resolver->threads > 0) {
            err = 0; /* it will have to wait for one of those */
        }
    }
    if (err == 0) {
        query->behind = NULL;
        if (resolver->last != NULL) {
            resolver->last->behind = query;
        }
        else {
            resolver->first = query;
        }
        resolver->last = query;
        pthread_cond_signal(&resolver->work);
    }
    pthread_mutex_unlock(&resolver->lock);
    return err;
}

/* True if the query was still in line, and is not any more. */
static bool
resolver_dequeue(corolla_resolver *resolver, corolla_query *query)
{
    bool found = false;
    corolla_query *before = NULL;
    pthread_mutex_lock(&resolver->lock);
    for (corolla_query *other = resolver->first; other != NULL; before = other, other = other->behind) {
        if (other != query) {
            continue;
        }
        found = true;
        if (before != NULL) {
            before->behind = query->behind;
        }
        else {
            resolver->first = query->behind;
        }
        if (resolver->last == query) {
            resolver->last = before;
        }
        break;
    }
    pthread_mutex_unlock(&resolver->lock);
    return found;
}

/* ---- What the owner calls -------------------------------------------------------------------- */

/* Takes the query over. */
static int
resolve(corolla_reactor *r, corolla_resolve *q, corolla_query *query)
{
    int err = is_inherited(r->inbox) ? -ECHILD : resolver_new(r);
    if (err < 0) {
        goto fail;
    }
    if (query_ask_at_once(query)) {
        err = corolla_ring_push(&r->ring, corolla_resolver_answer, query);
    }
    else {
        err = resolver_enqueue(r->resolver, query);
    }
    if (err < 0) {
        goto fail;
    }
    query->owner = q;
    query->resolver = r->resolver;
    query->next = r->resolver->queries;
    if (query->next != NULL) {
        query->next->prev = query;
    }
    r->resolver->queries = query;
    q->error = q->sys_errno = 0;
    q->result = NULL;
    q->query = query;
    return 0;

fail:
    query_free(query);
    q->query = NULL;
    return err;
}

int
corolla_resolve_address(corolla_reactor *r, corolla_resolve *q, const char *host, const char *service,
                        const struct addrinfo *hints)
{
    corolla_query *query = calloc(1, sizeof *query);
    if (query == NULL) {
        return -ENOMEM;
    }
    query->by_name = true;
    if (hints != NULL) {
        query->hinted = true;
        query->hints = (struct addrinfo){
            .ai_flags = hints->ai_flags,
            .ai_family = hints->ai_family,
            .ai_socktype = hints->ai_socktype,
            .ai_protocol = hints->ai_protocol,
        };
    }
    if ((host != NULL && (query->host = strdup(host)) == NULL) ||
        (service != NULL && (query->service = strdup(service)) == NULL)) {
        query_free(query);
        return -ENOMEM;
    }
    return resolve(r, q, query);
}

int
corolla_resolve_name(corolla_reactor *r, corolla_resolve *q, const struct sockaddr *addr, socklen_t len, int flags)
{
    if (len > sizeof(struct sockaddr_storage)) {
        return -EINVAL;
    }
    corolla_query *query = calloc(1, sizeof *query);
    if (query == NULL) {
        return -ENOMEM;
    }
    memcpy(&query->addr, addr, len);
    query->addrlen = len;
    query->flags = flags;
    return resolve(r, q, query);
}

void
corolla_resolve_cancel(corolla_resolve *q)
{
    corolla_query *query = q->query;
    if (query == NULL) {
        return;
    }
    corolla_resolver *resolver = query->resolver;
    if (!is_inherited(resolver->inbox) && resolver_dequeue(resolver, query)) {
        query_detach(query);
        query_free(query);
    }
    else {
        query->owner = NULL; /* with a thread, or answered: its job finds nobody. Or the thread is in the parent */
        q->query = NULL;
    }
}

void
corolla_resolver_close(corolla_reactor *r)
{
    corolla_resolver *resolver = r->resolver;
    if (resolver == NULL) {
        return;
    }
    r->resolver = NULL;
    /* From here on a thread that is done finds the inbox shut and frees its query itself. Answers that wait in the
     * inbox or the ring are freed below with those in line. */
    pthread_mutex_lock(&resolver->lock);
    corolla_query *line = resolver->first;
    resolver->first = resolver->last = NULL;
    resolver->closed = true;
    pthread_cond_broadcast(&resolver->work);
    pthread_mutex_unlock(&resolver->lock);
    while (line != NULL) {
        corolla_query *query = line;
        line = query->behind;
        query_detach(query);
        query_free(query);
    }
    while (resolver->queries != NULL) {
        query_detach(resolver->queries);
    }
    resolver_unref(resolver);
}

void
corolla_resolver_abandon(corolla_reactor *r)
{
    corolla_resolver *resolver = r->resolver;
    if (resolver == NULL) {
        return;
    }
    r->resolver = NULL;
    /* The threads are in the parent. What they may have been at, the line and its queries, is left as it lies. */
    while (resolver->queries != NULL) {
        query_detach(resolver->queries);
    }
    corolla_inbox_unref(resolver->inbox);
    free(resolver);
}

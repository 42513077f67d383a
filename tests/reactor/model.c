#include "model.h"

#include <reactor.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMERS = 24, MOST_QUEUED = 4096, MOST_RUN = 8192, LEAVE = -77 };

/* What a job does besides being logged, on both sides. */
enum { NOTHING, POST, START, STOP, LEAVE_TURN, ACTIONS };

/* Jobs are numbered; the timers' come first. */
typedef struct Order {
    unsigned number;
    unsigned action;
    unsigned operand;
} Order;

typedef struct Log {
    size_t count;
    unsigned numbers[MOST_RUN];
} Log;

/* ---- The model: lists, searched from end to end ------------------------------------------- */

typedef struct ModelTimer {
    bool waiting;
    int64_t deadline;
    uint64_t order;
    Order what;
} ModelTimer;

typedef struct Model {
    size_t count;
    Order ready[MOST_QUEUED];
    bool revoked[MOST_QUEUED];
    ModelTimer timers[TIMERS];
    uint64_t order;
    int64_t now;
    Log log;
} Model;

static Model model;

static void
model_post(Order what)
{
    model.revoked[model.count] = false;
    model.ready[model.count++] = what;
}

/* Where a timer's job waits, or count. */
static size_t
model_find(unsigned timer)
{
    size_t i = 0;
    while (i < model.count && (model.revoked[i] || model.ready[i].number != timer)) {
        i++;
    }
    return i;
}

static bool
model_is_pending(unsigned timer)
{
    return model.timers[timer].waiting || model_find(timer) < model.count;
}

static void
model_start(unsigned timer, int64_t deadline, Order what)
{
    model.timers[timer] = (ModelTimer){true, deadline, model.order++, what};
}

static bool
model_stop(unsigned timer)
{
    if (model.timers[timer].waiting) {
        model.timers[timer].waiting = false;
        return true;
    }
    size_t i = model_find(timer);
    if (i == model.count) {
        return false;
    }
    model.revoked[i] = true;
    return true;
}

static ModelTimer *
model_first_due(void)
{
    ModelTimer *first = NULL;
    for (unsigned i = 0; i < TIMERS; i++) {
        ModelTimer *timer = &model.timers[i];
        if (!timer->waiting || timer->deadline > model.now || timer->deadline == COROLLA_NEVER) {
            continue;
        }
        if (first == NULL || timer->deadline < first->deadline ||
            (timer->deadline == first->deadline && timer->order < first->order)) {
            first = timer;
        }
    }
    return first;
}

/* ---- The real thing --------------------------------------------------------------------------- */

typedef struct Real {
    corolla_reactor reactor;
    corolla_timer timers[TIMERS];
    Order timer_orders[TIMERS];
    Log log;
} Real;

static Real real;
static unsigned next_number;

static void
demand(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "the reactor and its model differ: %s\n", what);
        abort();
    }
}

static Order
new_order(unsigned action, unsigned operand)
{
    return (Order){next_number++, action, operand};
}

static int real_job(void *arg);
static int real_timer_job(void *arg);

static void
real_post(Order what)
{
    Order *copy = malloc(sizeof *copy);
    *copy = what;
    demand(corolla_reactor_post(&real.reactor, real_job, copy) == 0, "post");
}

static int64_t
deadline_of(unsigned operand)
{
    return operand == 255 ? COROLLA_NEVER : model.now + (int64_t)operand % 16 - 2;
}

/* The model's log is made first, so both sides see the same numbers for what is added while running. */
static int
real_act(Order what)
{
    real.log.numbers[real.log.count++] = what.number;
    unsigned timer = what.operand % TIMERS;
    switch (what.action) {
    case POST:
        real_post((Order){what.number + 1000000, NOTHING, 0});
        return 0;
    case START:
        if (real.timers[timer].index == COROLLA_TIMER_IDLE && real.timers[timer].job <= real.reactor.ring.head) {
            real.timer_orders[timer] = (Order){timer, NOTHING, 0};
            demand(corolla_timer_start(&real.reactor, &real.timers[timer], deadline_of(what.operand)) == 0, "start");
        }
        return 0;
    case STOP:
        corolla_timer_stop(&real.reactor, &real.timers[timer]);
        return 0;
    case LEAVE_TURN:
        return LEAVE;
    default:
        return 0;
    }
}

static int
model_act(Order what)
{
    model.log.numbers[model.log.count++] = what.number;
    unsigned timer = what.operand % TIMERS;
    switch (what.action) {
    case POST:
        model_post((Order){what.number + 1000000, NOTHING, 0});
        return 0;
    case START:
        if (!model_is_pending(timer)) {
            model_start(timer, deadline_of(what.operand), (Order){timer, NOTHING, 0});
        }
        return 0;
    case STOP:
        model_stop(timer);
        return 0;
    case LEAVE_TURN:
        return LEAVE;
    default:
        return 0;
    }
}

static int
real_job(void *arg)
{
    Order what = *(Order *)arg;
    free(arg);
    return real_act(what);
}

static int
real_timer_job(void *arg)
{
    corolla_timer *timer = arg;
    corolla_timer_fired(timer);
    return real_act(real.timer_orders[timer - real.timers]);
}

static int
model_turn(void)
{
    ModelTimer *due;
    while ((due = model_first_due()) != NULL) {
        due->waiting = false;
        model_post(due->what);
    }
    size_t end = model.count, i = 0;
    int rc = 0;
    while (i < end && rc == 0) {
        size_t this = i++;
        if (!model.revoked[this]) {
            Order what = model.ready[this];
            model.revoked[this] = true; /* running: no more to be found */
            rc = model_act(what);
        }
    }
    model.count -= i;
    memmove(model.ready, model.ready + i, model.count * sizeof *model.ready);
    memmove(model.revoked, model.revoked + i, model.count * sizeof *model.revoked);
    return rc;
}

static void
turn(void)
{
    real.log.count = model.log.count = 0;
    corolla_reactor_stop(&real.reactor); /* or it would sleep until the clock that stands still moves */
    int rc = corolla_reactor_turn(&real.reactor);
    demand(model_turn() == rc, "result of the turn");
    demand(real.log.count == model.log.count, "number of jobs run");
    demand(memcmp(real.log.numbers, model.log.numbers, real.log.count * sizeof(unsigned)) == 0, "order of jobs");
    demand(corolla_ring_count(&real.reactor.ring) == model.count, "jobs left");
}

static int
model_clock(void *ctx, int64_t *now)
{
    (void)ctx;
    *now = model.now;
    return 0;
}

static void
free_order(corolla_job_fn fn, void *arg, void *ctx)
{
    (void)ctx;
    if (fn == real_job) {
        free(arg);
    }
}

static void
check_heap(void)
{
    const corolla_timers *timers = &real.reactor.timers;
    size_t waiting = 0;
    for (unsigned i = 0; i < TIMERS; i++) {
        waiting += model.timers[i].waiting;
        demand((real.timers[i].index != COROLLA_TIMER_IDLE) == model.timers[i].waiting, "who is in the heap");
    }
    demand(timers->count == waiting, "size of the heap");
    for (size_t i = 0; i < timers->count; i++) {
        demand(timers->heap[i]->index == i, "index in the heap");
    }
}

void
model_compare(const uint8_t *data, size_t size)
{
    memset(&model, 0, sizeof model);
    memset(&real, 0, sizeof real);
    next_number = TIMERS;
    demand(corolla_reactor_init(&real.reactor) == 0, "init");
    real.reactor.hooks.clock = model_clock;
    for (unsigned i = 0; i < TIMERS; i++) {
        corolla_timer_init(&real.timers[i], real_timer_job, &real.timers[i]);
    }
    for (size_t i = 0; i + 2 < size && model.count < MOST_QUEUED / 4; i += 3) {
        unsigned operand = data[i + 1], action = data[i + 2] % ACTIONS;
        unsigned timer = operand % TIMERS;
        switch (data[i] % 6) {
        case 0: {
            Order what = new_order(action, data[i + 2]);
            real_post(what);
            model_post(what);
            break;
        }
        case 1:
            for (unsigned n = 0; n < operand % 96; n++) {
                Order what = new_order(NOTHING, 0);
                real_post(what);
                model_post(what);
            }
            break;
        case 2:
            if (!model_is_pending(timer)) {
                Order what = {timer, action, data[i + 2]};
                real.timer_orders[timer] = what;
                demand(corolla_timer_start(&real.reactor, &real.timers[timer], deadline_of(data[i + 2])) == 0, "start");
                model_start(timer, deadline_of(data[i + 2]), what);
            }
            break;
        case 3:
            demand(corolla_timer_stop(&real.reactor, &real.timers[timer]) == model_stop(timer), "result of stop");
            break;
        case 4:
            model.now += operand % 8;
            break;
        default:
            turn();
        }
        check_heap();
    }
    turn();
    corolla_reactor_drain(&real.reactor, free_order, NULL);
    demand(corolla_ring_count(&real.reactor.ring) == 0 && real.reactor.timers.count == 0, "empty when drained");
    corolla_reactor_close(&real.reactor);
}

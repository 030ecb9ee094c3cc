/*
 * edge_action.h: what a vehicle may do, between the one who commands and the actuators: passes, limits or blocks.
 *
 * Ask edge_lease_allowed() (edge_lease.h), give its answer here with each request, and pass on what is granted.
 * edge_monitor/action_gate.py is the same in Python, held equal by tests; docs/consumer.md has the rules.
 *
 * C99 (or C++), header only, no allocation; besides edge_lease.h it needs <float.h> for DBL_MAX. Floating point must be IEEE
 * double without contraction: -std=c99, or -ffp-contract=off; never -ffast-math.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef EDGE_ACTION_H
#define EDGE_ACTION_H

#include <float.h>

#include "edge_lease.h"

#ifdef __FAST_MATH__
#error "edge_action.h needs NaN and infinity: compile without -ffast-math"
#endif

#define EDGE_ACTION_MAX_NAMES 16U
#define EDGE_ACTION_NAME_BYTES 32U
#define EDGE_ACTION_SUBJECT_BYTES 64U
#define EDGE_ACTION_UNIT_BYTES 16U
#define EDGE_ACTION_QUIET_NS INT64_C(1000000000)
#define EDGE_ACTION_RULES 7U

/* What became of a request. */
enum edge_action_outcome {
  EDGE_ACTION_PASSED = 0,
  EDGE_ACTION_LIMITED = 1, /* a smaller one is granted */
  EDGE_ACTION_BLOCKED = 2  /* nothing is granted; of a velocity, zero */
};

/* What held a request back. */
enum edge_action_rule {
  EDGE_ACTION_NONE = 0,
  EDGE_ACTION_SCOPE = 1,      /* no such command or action was declared */
  EDGE_ACTION_NOT_FINITE = 2, /* NaN or infinite */
  EDGE_ACTION_NO_GO = 3,      /* the gate's answer */
  EDGE_ACTION_SPEED = 4,      /* faster than the greatest speed */
  EDGE_ACTION_RANGE = 5,      /* outside the command's range */
  EDGE_ACTION_BUDGET = 6      /* the mission's number of this action is used up */
};

/* A request that was held back: the last one of its subject. A request has as many numbers as requested_count says. */
struct edge_action_refusal {
  uint8_t subject[EDGE_ACTION_SUBJECT_BYTES + 1U]; /* ended with a zero byte; "velocity" for a velocity */
  uint8_t unit[EDGE_ACTION_UNIT_BYTES + 1U];
  enum edge_action_outcome outcome;
  enum edge_action_rule rule;
  enum edge_lease_reason answer;
  uint32_t requested_count;
  uint32_t granted_count;
  double requested[3];
  double granted[3];
};

enum edge_action_kind { EDGE_ACTION_COMMAND = 0, EDGE_ACTION_BUDGETED = 1, EDGE_ACTION_STOP = 2 };

/* What was told about one subject: the rule then; refusals since, by rule, the first at since. told_at < 0: never. */
struct edge_action_subject {
  struct edge_action_refusal last;
  enum edge_action_rule told;
  int64_t told_at;
  int64_t since;
  uint32_t counts[EDGE_ACTION_RULES];
};

/* A declared name: a command with its range, an action with its budget, or an action that stops. */
struct edge_action_name {
  uint8_t name[EDGE_ACTION_NAME_BYTES];
  enum edge_action_kind kind;
  uint8_t block;
  double low;
  double high;
  uint32_t most;
  uint32_t used;
  struct edge_action_subject subject;
};

struct edge_action {
  uint8_t has_max_speed;
  double max_speed;
  uint32_t names;
  struct edge_action_name name[EDGE_ACTION_MAX_NAMES];
  struct edge_action_subject velocity;
  struct edge_action_subject unknown; /* all undeclared names together */
};

/*
 * The answer to one request. granted: one number of a command, three of a velocity; nothing to pass on of a blocked command.
 * record 1: tell the monitor (action.blocked, edge_report.h) of the last refusal and of counts (refusals since the last record,
 * by rule) since since_ns.
 */
struct edge_action_verdict {
  enum edge_action_outcome outcome;
  enum edge_action_rule rule;
  double granted[3];
  uint8_t record;
  struct edge_action_refusal last;
  uint32_t counts[EDGE_ACTION_RULES];
  int64_t since_ns;
};

/* ---- inside ---- */

static inline int edge_action_is_finite(double value) { return (value >= -DBL_MAX) && (value <= DBL_MAX); }

static inline double edge_action_abs(double value) { return (value < 0.0) ? -value : value; }

static inline int edge_action_is_pending(const struct edge_action_subject *subject) {
  uint32_t i;
  for (i = 0U; i < EDGE_ACTION_RULES; i++) {
    if (subject->counts[i] != 0U) {
      return 1;
    }
  }
  return 0;
}

static inline void edge_action_forget_subject(struct edge_action_subject *subject) {
  (void)memset(subject, 0, sizeof(*subject));
  subject->told_at = -1;
}

/* Move what is pending into the verdict. */
static inline void edge_action_tell(struct edge_action_verdict *verdict, struct edge_action_subject *subject, int64_t now) {
  verdict->record = 1U;
  verdict->last = subject->last;
  verdict->since_ns = subject->since;
  (void)memcpy(verdict->counts, subject->counts, sizeof(verdict->counts));
  (void)memset(subject->counts, 0, sizeof(subject->counts));
  subject->told_at = now;
}

/*
 * A name as a record holds it: at most EDGE_ACTION_SUBJECT_BYTES bytes. Of a name that nobody declared, what is not ASCII becomes
 * a question mark.
 */
static inline void edge_action_set_subject(struct edge_action_refusal *refusal, const char *name, int declared) {
  const uint8_t *bytes = (const uint8_t *)name;
  uint32_t i;
  (void)memset(refusal->subject, 0, sizeof(refusal->subject));
  for (i = 0U; (name != NULL) && (i < EDGE_ACTION_SUBJECT_BYTES) && (bytes[i] != 0U); i++) {
    refusal->subject[i] = ((declared != 0) || ((bytes[i] >= 0x20U) && (bytes[i] < 0x7fU))) ? bytes[i] : (uint8_t)'?';
  }
}

/* Remember a request that was held back, of count numbers. */
static inline void edge_action_hold(struct edge_action_subject *subject, const struct edge_action_verdict *verdict, const double *requested,
                                    uint32_t count, enum edge_lease_reason answer) {
  struct edge_action_refusal *last = &subject->last;
  uint32_t i;
  last->outcome = verdict->outcome;
  last->rule = verdict->rule;
  last->answer = answer;
  last->requested_count = count;
  for (i = 0U; i < count; i++) {
    last->requested[i] = requested[i];
  }
  last->granted_count = (count == 3U) ? 3U : ((verdict->outcome == EDGE_ACTION_LIMITED) ? count : 0U);
  (void)memcpy(last->granted, verdict->granted, sizeof(last->granted));
}

/* Count the verdict; tell it when the subject's rule has changed and the last record is a second old. */
static inline void edge_action_count(struct edge_action_verdict *verdict, struct edge_action_subject *subject, int64_t now) {
  const enum edge_action_rule rule = verdict->rule;
  if (rule != EDGE_ACTION_NONE) {
    if (!edge_action_is_pending(subject)) {
      subject->since = now;
    }
    if (subject->counts[rule] < UINT32_MAX) {
      subject->counts[rule]++;
    }
  }
  if ((rule != subject->told) &&
      ((subject->told_at < 0) || (now < subject->told_at) || ((now - subject->told_at) >= EDGE_ACTION_QUIET_NS))) {
    if (edge_action_is_pending(subject)) {
      edge_action_tell(verdict, subject, now);
    }
    subject->told = rule;
  }
}

static inline struct edge_action_verdict edge_action_decide(enum edge_action_rule rule) {
  struct edge_action_verdict verdict;
  (void)memset(&verdict, 0, sizeof(verdict));
  verdict.outcome = (rule == EDGE_ACTION_NONE) ? EDGE_ACTION_PASSED : EDGE_ACTION_BLOCKED;
  verdict.rule = rule;
  return verdict;
}

static inline struct edge_action_name *edge_action_find(struct edge_action *a, const char *name) {
  const uint8_t *bytes = (const uint8_t *)name;
  const uint32_t length = (name == NULL) ? 0U : edge_lease_length(bytes, EDGE_ACTION_NAME_BYTES + 1U);
  uint32_t i;
  if ((length >= 1U) && (length <= EDGE_ACTION_NAME_BYTES)) {
    for (i = 0U; i < a->names; i++) {
      const uint8_t *known = a->name[i].name;
      if ((edge_lease_length(known, EDGE_ACTION_NAME_BYTES) == length) && (memcmp(known, bytes, length) == 0)) {
        return &a->name[i];
      }
    }
  }
  return NULL;
}

static inline struct edge_action_name *edge_action_declare(struct edge_action *a, const char *name) {
  const uint8_t *bytes = (const uint8_t *)name;
  const uint32_t length = (name == NULL) ? 0U : edge_lease_length(bytes, EDGE_ACTION_NAME_BYTES + 1U);
  struct edge_action_name *entry;
  if ((!edge_lease_is_name(bytes, length)) || (a->names >= EDGE_ACTION_MAX_NAMES) || (edge_action_find(a, name) != NULL)) {
    return NULL;
  }
  entry = &a->name[a->names];
  (void)memset(entry, 0, sizeof(*entry));
  (void)memcpy(entry->name, bytes, length);
  edge_action_forget_subject(&entry->subject);
  edge_action_set_subject(&entry->subject.last, name, 1);
  a->names++;
  return entry;
}

/*
 * Cut the vector's length to most (never longer, shorter by 2e-15 of it at the most); 0 if it is short enough already, to
 * 4e-16 of the length. The vector is finite and not zero. Newton's square root on components scaled to 1, so that nothing overflows and no libm is needed.
 */
static inline int edge_action_shorten(double v[3], double most) {
  double scale = edge_action_abs(v[0]);
  double root = 1.5;
  double x;
  double y;
  double z;
  double square;
  uint32_t i;
  scale = (edge_action_abs(v[1]) > scale) ? edge_action_abs(v[1]) : scale;
  scale = (edge_action_abs(v[2]) > scale) ? edge_action_abs(v[2]) : scale;
  x = v[0] / scale;
  y = v[1] / scale;
  z = v[2] / scale;
  square = (x * x) + (y * y) + (z * z); /* 1 to 3 */
  for (i = 0U; i < 6U; i++) {
    root = 0.5 * (root + (square / root));
  }
  if (scale <= (most / root)) {
    return 0;
  }
  most = (most * (1.0 - 1e-15)) / root;
  v[0] = x * most;
  v[1] = y * most;
  v[2] = z * most;
  return 1;
}

/* ---- what a vehicle calls ---- */

/* Nothing is in scope but stopping. */
static inline void edge_action_init(struct edge_action *a) {
  (void)memset(a, 0, sizeof(*a));
  edge_action_forget_subject(&a->velocity);
  edge_action_forget_subject(&a->unknown);
  edge_action_set_subject(&a->velocity.last, "velocity", 1);
  (void)memcpy(a->velocity.last.unit, "m/s", 3U);
}

/* The greatest length of a velocity, in m/s. 0 if it is no finite number from 0 on. */
static inline int edge_action_set_max_speed(struct edge_action *a, double max_speed) {
  if ((max_speed >= 0.0) && (max_speed <= DBL_MAX)) {
    a->has_max_speed = 1U;
    a->max_speed = max_speed;
    return 1;
  }
  return 0;
}

/* Declare a command's range. block 1: outside it nothing is granted, 0: the nearer end. 0 if no range, name or room. */
static inline int edge_action_add_command(struct edge_action *a, const char *name, double low, double high, uint8_t block) {
  struct edge_action_name *entry = NULL;
  if ((low >= -DBL_MAX) && (low <= high) && (high <= DBL_MAX)) {
    entry = edge_action_declare(a, name);
  }
  if (entry == NULL) {
    return 0;
  }
  entry->kind = EDGE_ACTION_COMMAND;
  entry->low = low;
  entry->high = high;
  entry->block = block;
  return 1;
}

/* The unit of a declared command, for the record: at most EDGE_ACTION_UNIT_BYTES bytes of UTF-8. 0 if there is no such command. */
static inline int edge_action_set_unit(struct edge_action *a, const char *name, const char *unit) {
  struct edge_action_name *entry = edge_action_find(a, name);
  const uint8_t *bytes = (const uint8_t *)unit;
  const uint32_t length = (unit == NULL) ? 0U : edge_lease_length(bytes, EDGE_ACTION_UNIT_BYTES + 1U);
  if ((entry == NULL) || (entry->kind != EDGE_ACTION_COMMAND) || (length > EDGE_ACTION_UNIT_BYTES) ||
      ((length > 0U) && (!edge_lease_is_name(bytes, length)))) {
    return 0;
  }
  (void)memset(entry->subject.last.unit, 0, sizeof(entry->subject.last.unit));
  if (length > 0U) {
    (void)memcpy(entry->subject.last.unit, bytes, length);
  }
  return 1;
}

/* Declare how many of an action a mission may do, and how many it has done already (kept across a restart). */
static inline int edge_action_add_budget(struct edge_action *a, const char *name, uint32_t most, uint32_t used) {
  struct edge_action_name *entry = edge_action_declare(a, name);
  if (entry == NULL) {
    return 0;
  }
  entry->kind = EDGE_ACTION_BUDGETED;
  entry->most = most;
  entry->used = used;
  return 1;
}

/* Declare an action that always passes. */
static inline int edge_action_add_stop(struct edge_action *a, const char *name) {
  struct edge_action_name *entry = edge_action_declare(a, name);
  if (entry == NULL) {
    return 0;
  }
  entry->kind = EDGE_ACTION_STOP;
  return 1;
}

/* Budgets begin anew. */
static inline void edge_action_new_mission(struct edge_action *a) {
  uint32_t i;
  for (i = 0U; i < a->names; i++) {
    a->name[i].used = 0U;
  }
}

/* A velocity in m/s. Zero is a stop and always passes; what is too fast keeps its direction. */
static inline struct edge_action_verdict edge_action_velocity(struct edge_action *a, const double requested[3],
                                                              enum edge_lease_reason answer, int64_t now_ns) {
  enum edge_action_rule rule = EDGE_ACTION_NONE;
  double v[3];
  struct edge_action_verdict verdict;
  v[0] = requested[0];
  v[1] = requested[1];
  v[2] = requested[2];
  if ((!edge_action_is_finite(v[0])) || (!edge_action_is_finite(v[1])) || (!edge_action_is_finite(v[2]))) {
    rule = EDGE_ACTION_NOT_FINITE;
  } else if ((edge_action_abs(v[0]) <= 0.0) && (edge_action_abs(v[1]) <= 0.0) && (edge_action_abs(v[2]) <= 0.0)) {
    rule = EDGE_ACTION_NONE;
  } else if (a->has_max_speed == 0U) {
    rule = EDGE_ACTION_SCOPE;
  } else if (answer != EDGE_LEASE_GO) {
    rule = EDGE_ACTION_NO_GO;
  } else if (edge_action_shorten(v, a->max_speed)) {
    rule = EDGE_ACTION_SPEED;
  } else {
    /* passes */
  }
  verdict = edge_action_decide(rule);
  if ((rule == EDGE_ACTION_NONE) || (rule == EDGE_ACTION_SPEED)) {
    verdict.outcome = (rule == EDGE_ACTION_NONE) ? EDGE_ACTION_PASSED : EDGE_ACTION_LIMITED;
    (void)memcpy(verdict.granted, v, sizeof(verdict.granted));
  }
  if (rule != EDGE_ACTION_NONE) {
    edge_action_hold(&a->velocity, &verdict, requested, 3U, answer);
  }
  edge_action_count(&verdict, &a->velocity, now_ns);
  return verdict;
}

/* A command of one number, in its range's unit. */
static inline struct edge_action_verdict edge_action_command(struct edge_action *a, const char *name, double value,
                                                             enum edge_lease_reason answer, int64_t now_ns) {
  struct edge_action_name *entry = edge_action_find(a, name);
  struct edge_action_verdict verdict;
  if ((entry == NULL) || (entry->kind != EDGE_ACTION_COMMAND)) {
    verdict = edge_action_decide(EDGE_ACTION_SCOPE);
    edge_action_hold(&a->unknown, &verdict, &value, 1U, answer);
    edge_action_set_subject(&a->unknown.last, name, 0);
    edge_action_count(&verdict, &a->unknown, now_ns);
    return verdict;
  }
  if (!edge_action_is_finite(value)) {
    verdict = edge_action_decide(EDGE_ACTION_NOT_FINITE);
  } else if (answer != EDGE_LEASE_GO) {
    verdict = edge_action_decide(EDGE_ACTION_NO_GO);
  } else if ((value < entry->low) || (value > entry->high)) {
    verdict = edge_action_decide(EDGE_ACTION_RANGE);
    if (entry->block == 0U) {
      verdict.outcome = EDGE_ACTION_LIMITED;
      verdict.granted[0] = (value < entry->low) ? entry->low : entry->high;
    }
  } else {
    verdict = edge_action_decide(EDGE_ACTION_NONE);
    verdict.granted[0] = value;
  }
  if (verdict.rule != EDGE_ACTION_NONE) {
    edge_action_hold(&entry->subject, &verdict, &value, 1U, answer);
  }
  edge_action_count(&verdict, &entry->subject, now_ns);
  return verdict;
}

/* A single action; a granted one counts against the mission's budget. */
static inline struct edge_action_verdict edge_action_perform(struct edge_action *a, const char *name,
                                                             enum edge_lease_reason answer, int64_t now_ns) {
  struct edge_action_name *entry = edge_action_find(a, name);
  struct edge_action_verdict verdict;
  if ((entry == NULL) || (entry->kind == EDGE_ACTION_COMMAND)) {
    verdict = edge_action_decide(EDGE_ACTION_SCOPE);
    edge_action_hold(&a->unknown, &verdict, NULL, 0U, answer);
    edge_action_set_subject(&a->unknown.last, name, 0);
    edge_action_count(&verdict, &a->unknown, now_ns);
    return verdict;
  }
  if (entry->kind == EDGE_ACTION_STOP) {
    return edge_action_decide(EDGE_ACTION_NONE);
  }
  if (answer != EDGE_LEASE_GO) {
    verdict = edge_action_decide(EDGE_ACTION_NO_GO);
  } else if (entry->used >= entry->most) {
    verdict = edge_action_decide(EDGE_ACTION_BUDGET);
  } else {
    verdict = edge_action_decide(EDGE_ACTION_NONE);
    entry->used++;
  }
  if (verdict.rule != EDGE_ACTION_NONE) {
    edge_action_hold(&entry->subject, &verdict, NULL, 0U, answer);
  }
  edge_action_count(&verdict, &entry->subject, now_ns);
  return verdict;
}

/*
 * What was held back and not told yet of one subject: 0 velocity, 1 undeclared names together, 2 and up the declared ones in order.
 * 1: verdict has its last refusal, counts and since_ns to tell. Call it for all of them once a second or so, and when a mission ends.
 */
static inline int edge_action_flush(struct edge_action *a, uint32_t index, int64_t now_ns, struct edge_action_verdict *verdict) {
  struct edge_action_subject *subject = NULL;
  if (index == 0U) {
    subject = &a->velocity;
  } else if (index == 1U) {
    subject = &a->unknown;
  } else if ((index - 2U) < a->names) {
    subject = &a->name[index - 2U].subject;
  } else {
    /* no such subject */
  }
  if ((subject == NULL) || (!edge_action_is_pending(subject))) {
    return 0;
  }
  *verdict = edge_action_decide(EDGE_ACTION_NONE);
  edge_action_tell(verdict, subject, now_ns);
  return 1;
}

#endif /* EDGE_ACTION_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* The plan as it comes from the host: decoding with every length checked.  It allocates nothing and trusts
 * nothing; tests/helper/ fuzzes it alone.  docs/verbs.md tells the form. */
#ifndef OCIRUN_HELPER_WIRE_H
#define OCIRUN_HELPER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A place in a record; slots is the number of slots of the plan. */
struct wire {
    const uint8_t *at;
    size_t left;
    uint32_t slots;
};

struct wire_bytes {
    const uint8_t *data;
    uint32_t length;
};

/* A list of texts, checked, in its wire form; wire_next walks it. */
struct wire_strs {
    const uint8_t *at;
    uint32_t count;
};

struct wire_u32s {
    const uint32_t *values;
    uint32_t count;
};

/* Each takes one argument off the record; false, with nothing to use in value, when it is not there whole. */
bool wire_u32(struct wire *wire, uint32_t *value);
bool wire_i32(struct wire *wire, int32_t *value);
bool wire_u64(struct wire *wire, uint64_t *value);
bool wire_slot(struct wire *wire, uint32_t *value);
bool wire_str(struct wire *wire, const char **value);
bool wire_bytes(struct wire *wire, struct wire_bytes *value);
bool wire_strs(struct wire *wire, struct wire_strs *value);
bool wire_u32s(struct wire *wire, struct wire_u32s *value);
bool wire_at_end(const struct wire *wire);

/* The next text of a list, which must have one. */
const char *wire_next(struct wire_strs *strs);

/* A plan that plan_open found whole. */
struct plan {
    const uint8_t *data;
    uint32_t size, records, slots;
};

struct record {
    uint32_t verb, step;
    struct wire wire;
};

enum { PLAN_HEADER = 32, PLAN_SIZE_MAX = 32 << 20, PLAN_SLOTS_MAX = 1 << 16 };

/* Checks a plan from its header to its last byte: NULL when all of it can be performed, else what is wrong
 * with it, and step is then the step of the record it is wrong with, 0 for the header.  data is aligned to 4.
 */
const char *plan_open(struct plan *plan, const uint8_t *data, size_t size, uint32_t *step);

/* Walks the records: at is 0 at first; false after the last one. */
bool plan_next(const struct plan *plan, uint32_t *at, struct record *record);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "helper_wire.h"

#include <string.h>

#include "verbs.h"

enum { PLAN_MAGIC = 0x3150434f, RECORD_HEADER = 8, DIGEST_SIZE = 16 };

static uint32_t load_u32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Takes size bytes and what pads them to a multiple of 4; NULL when they are not there. */
static const uint8_t *take(struct wire *wire, size_t size) {
    const uint8_t *at = wire->at;
    size_t padding = -size & 3;

    if (size > wire->left || padding > wire->left - size)
        return NULL;
    for (size_t i = 0; i < padding; i++)
        if (at[size + i])
            return NULL;
    wire->at += size + padding;
    wire->left -= size + padding;
    return at;
}

static bool take_number(struct wire *wire, void *value, size_t size) {
    const uint8_t *at = take(wire, size);

    return at && memcpy(value, at, size);
}

bool wire_u32(struct wire *wire, uint32_t *value) {
    return take_number(wire, value, sizeof *value);
}

bool wire_i32(struct wire *wire, int32_t *value) {
    return take_number(wire, value, sizeof *value);
}

bool wire_u64(struct wire *wire, uint64_t *value) {
    return take_number(wire, value, sizeof *value);
}

bool wire_slot(struct wire *wire, uint32_t *value) {
    return wire_u32(wire, value) && *value < wire->slots;
}

bool wire_str(struct wire *wire, const char **value) {
    uint32_t length;
    const uint8_t *at;

    if (!wire_u32(wire, &length) || length >= PLAN_SIZE_MAX)
        return false;
    at = take(wire, (size_t)length + 1);
    if (!at || memchr(at, 0, (size_t)length + 1) != at + length)
        return false;
    *value = (const char *)at;
    return true;
}

bool wire_bytes(struct wire *wire, struct wire_bytes *value) {
    if (!wire_u32(wire, &value->length))
        return false;
    value->data = take(wire, value->length);
    return value->data != NULL;
}

bool wire_strs(struct wire *wire, struct wire_strs *value) {
    const char *ignored;

    if (!wire_u32(wire, &value->count))
        return false;
    value->at = wire->at;
    for (uint32_t i = 0; i < value->count; i++)
        if (!wire_str(wire, &ignored))
            return false;
    return true;
}

bool wire_u32s(struct wire *wire, struct wire_u32s *value) {
    if (!wire_u32(wire, &value->count))
        return false;
    value->values = (const uint32_t *)(const void *)take(wire, (size_t)value->count * sizeof *value->values);
    return value->values != NULL;
}

bool wire_at_end(const struct wire *wire) {
    return wire->left == 0;
}

const char *wire_next(struct wire_strs *strs) {
    const char *value = (const char *)strs->at + sizeof(uint32_t);
    size_t size = (size_t)load_u32(strs->at) + 1;

    strs->at += sizeof(uint32_t) + size + (-size & 3);
    strs->count--;
    return value;
}

bool plan_next(const struct plan *plan, uint32_t *at, struct record *record) {
    const uint8_t *data = plan->data;
    uint16_t verb, step;
    uint32_t size;

    if (*at == 0)
        *at = PLAN_HEADER;
    if (plan->size - *at < RECORD_HEADER)
        return false;
    size = load_u32(data + *at);
    if (size < RECORD_HEADER || size % 4 || size > plan->size - *at)
        return false;
    memcpy(&verb, data + *at + 4, sizeof verb);
    memcpy(&step, data + *at + 6, sizeof step);
    record->verb = verb;
    record->step = step;
    record->wire =
        (struct wire){.at = data + *at + RECORD_HEADER, .left = size - RECORD_HEADER, .slots = plan->slots};
    *at += size;
    return true;
}

/* The header, in the order of what a stranger's file would get wrong first. */
static const char *open_header(struct plan *plan, const uint8_t *data, size_t size) {
    if (size < PLAN_HEADER || load_u32(data) != PLAN_MAGIC)
        return "not a plan";
    if (size > PLAN_SIZE_MAX || load_u32(data + 4) != size)
        return "the size is wrong";
    if (memcmp(data + 8, TABLE_DIGEST, DIGEST_SIZE) != 0)
        return "made from another table of verbs";
    *plan = (struct plan){
        .data = data, .size = (uint32_t)size, .records = load_u32(data + 24), .slots = load_u32(data + 28)};
    return plan->slots > PLAN_SLOTS_MAX ? "too many slots" : NULL;
}

/* What is wrong with the verb at this place: stage verbs come first, clone_init once, then init verbs, and
 * exec (or, where nothing is ever started, await_start) as the last record; a meet may stand anywhere.  The
 * caller keeps actor and ended from record to record. */
static const char *check_order(uint32_t verb, enum actor *actor, bool *ended) {
    enum actor of_verb = verb_actor(verb);

    if (of_verb == ACTOR_HOST)
        return "no verb of the helper";
    if (*ended)
        return "a record after exec";
    if (of_verb != *actor && verb != VERB_MEET)
        return *actor == ACTOR_STAGE ? "a verb of init before clone_init"
                                     : "a verb of the stage after clone_init";
    if (verb == VERB_CLONE_INIT)
        *actor = ACTOR_INIT;
    *ended = verb == VERB_EXEC;
    return NULL;
}

const char *plan_open(struct plan *plan, const uint8_t *data, size_t size, uint32_t *step) {
    enum actor actor = ACTOR_STAGE;
    union verb_args args;
    struct record record = {0};
    const char *wrong;
    uint32_t at = 0, count = 0;
    bool ended = false;

    *step = 0;
    if ((wrong = open_header(plan, data, size)))
        return wrong;
    for (; plan_next(plan, &at, &record); count++) {
        *step = record.step;
        if ((wrong = check_order(record.verb, &actor, &ended)))
            return wrong;
        if (!verb_decode(record.verb, &record.wire, &args))
            return "the arguments are wrong";
    }
    if (at != plan->size || count != plan->records)
        return "the records do not fill it";
    /* what changes mounts executes nothing */
    if (actor == ACTOR_INIT && !ended && record.verb != VERB_AWAIT_START &&
        record.verb != VERB_SET_READONLY && (record.verb < VERB_MOUNT || record.verb > VERB_UNMOUNT))
        return "no exec at the end";
    return NULL;
}

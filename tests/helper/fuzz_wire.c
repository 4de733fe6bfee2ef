/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds plans, good and broken, to the parser of the helper.  LLVMFuzzerTestOneInput is what libFuzzer calls;
 * with gcc, main mutates the plans it is given, the same way each time, and counts what was taken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verbs.h"

enum { INPUT_MAX = 1 << 16, FIXED_HEADER = 28 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile size_t seen;

static void use_strs(struct wire_strs strs) {
    while (strs.count)
        seen += strlen(wire_next(&strs));
}

static void use(uint32_t verb, const union verb_args *args) {
    if (verb == VERB_MOUNT)
        use_strs(args->mount.options);
    if (verb == VERB_EXEC) {
        use_strs(args->exec.args);
        use_strs(args->exec.env);
    }
    if (verb == VERB_SET_GROUPS)
        for (uint32_t i = 0; i < args->set_groups.groups.count; i++)
            seen += args->set_groups.groups.values[i];
    if (verb == VERB_ALLOW_DEVICES)
        for (uint32_t i = 0; i < args->allow_devices.program.length; i++)
            seen += args->allow_devices.program.data[i];
}

/* 1 when the plan was taken whole.  Each decoder runs on each record, not only the one its verb names. */
static int parse(const uint8_t *data, size_t size) {
    struct record record;
    struct plan plan;
    union verb_args args;
    uint32_t at = 0, step;

    if (plan_open(&plan, data, size, &step))
        return 0;
    while (plan_next(&plan, &at, &record)) {
        for (uint32_t verb = 0; verb <= VERB_LAST + 1; verb++) {
            struct wire wire = record.wire;
            if (verb_decode(verb, &wire, &args))
                use(verb, &args);
            else if (verb == record.verb)
                abort();
        }
    }
    return 1;
}

/* A block of its own, of just this size: the sanitizer sees one byte too far. */
static int parse_copy(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    int taken;

    if (!copy)
        abort();
    memcpy(copy, data, size);
    taken = parse(copy, size);
    free(copy);
    return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    parse_copy(data, size);
    return 0;
}

#ifndef LIBFUZZER
static uint64_t state = 0x9e3779b97f4a7c15;

static uint32_t draw(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % below;
}

/* Most mutants keep the header true, or none would come past it. */
static size_t mutate(uint8_t *data, size_t size) {
    static const uint32_t values[] = {0, 1, 3, 4, 7, 8, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff};
    uint32_t length;

    for (uint32_t changes = 1 + draw(4); changes; changes--) {
        uint32_t at = draw(16) ? FIXED_HEADER + draw((uint32_t)size - FIXED_HEADER) : draw((uint32_t)size);
        switch (draw(4)) {
        case 0:
            data[at] ^= (uint8_t)(1U << draw(8));
            break;
        case 1:
            data[at] = (uint8_t)draw(256);
            break;
        case 2:
            at &= ~3U;
            if (at + 4 <= size)
                memcpy(data + at, &values[draw(sizeof values / sizeof *values)], 4);
            break;
        default:
            if (size > FIXED_HEADER + 8 && !draw(4))
                size -= draw(8);
            break;
        }
    }
    length = (uint32_t)size;
    if (draw(16))
        memcpy(data + 4, &length, sizeof length);
    return size;
}

static size_t read_seed(const char *path, uint8_t *data) {
    FILE *file = fopen(path, "rb");
    size_t size;

    if (!file)
        abort();
    size = fread(data, 1, INPUT_MAX, file);
    fclose(file);
    return size;
}

/* fuzz_wire COUNT SEED… */
int main(int argc, char **argv) {
    static uint8_t seed[INPUT_MAX], data[INPUT_MAX];
    unsigned long count, taken = 0, refused = 0;

    if (argc < 3)
        return 2;
    count = strtoul(argv[1], NULL, 10);
    for (int i = 2; i < argc; i++) {
        size_t size = read_seed(argv[i], seed);
        if (!parse_copy(seed, size)) {
            fprintf(stderr, "%s is refused\n", argv[i]);
            return 1;
        }
        for (unsigned long n = 0; n < count; n++) {
            memcpy(data, seed, size);
            *(parse_copy(data, mutate(data, size)) ? &taken : &refused) += 1;
        }
    }
    printf("%lu %lu\n", taken, refused);
    return 0;
}
#endif

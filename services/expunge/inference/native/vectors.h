/* What all kernels are written in: vectors of 16 numbers. */
#ifndef EXPUNGE_VECTORS_H
#define EXPUNGE_VECTORS_H

#include <stdint.h>
#include <string.h>

#define BLOCK 16    /* numbers of a vector; also the positions of a block of keys or values */
#define SMALL 16384 /* numbers below which a second thread costs more than it saves */

typedef float vec __attribute__((vector_size(64)));
typedef int32_t ivec __attribute__((vector_size(64)));

static inline vec load(const float *from) {
    vec value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void store(float *to, vec value) { memcpy(to, &value, sizeof value); }

static inline vec spread(float value) { return value - (vec){0}; }

static inline float sum_of(vec value) {
    float total = 0;
    for (int lane = 0; lane < BLOCK; lane++) total += value[lane];
    return total;
}

#endif

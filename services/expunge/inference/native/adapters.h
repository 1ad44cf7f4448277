/* What adapters add to a product: out[t] += (x[t] A^T) B, each token with the factors of its own adapter. */
#ifndef EXPUNGE_ADAPTERS_H
#define EXPUNGE_ADAPTERS_H

#include "vectors.h"

#define QUAD 4 /* ranks that are projected together */

struct factors {
    const float *a, *b; /* [rank][in], [rank][out] */
    int64_t rank;       /* 0: this layer has none */
};

struct range {
    int64_t start, stop; /* tokens */
};

/* Adds the halves of every group of 2 * step lanes: those of a, then those of b. */
static inline __attribute__((always_inline)) vec add_halves(vec a, vec b, const int step) {
    ivec low, high;
    for (int source = 0, at = 0; source < 2 * BLOCK; source += 2 * step)
        for (int lane = 0; lane < step; lane++, at++) {
            low[at] = source + lane;
            high[at] = source + step + lane;
        }
    return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
}

/* Lane i is the sum of the lanes of parts[i]; the parts are used up. */
static inline __attribute__((always_inline)) vec sums_of(vec parts[BLOCK]) {
    for (int i = 0; i < 8; i++) parts[i] = add_halves(parts[2 * i], parts[2 * i + 1], 8);
    for (int i = 0; i < 4; i++) parts[i] = add_halves(parts[2 * i], parts[2 * i + 1], 4);
    for (int i = 0; i < 2; i++) parts[i] = add_halves(parts[2 * i], parts[2 * i + 1], 2);
    return add_halves(parts[0], parts[1], 1);
}

/* out[t][0..4] = x[t] . weight[0..4] for up to four rows of x. The first tile of a weight fetches what comes behind
 * it. */
static inline __attribute__((always_inline)) void project_tile(const int rows, const int is_first, const float *x,
                                                                const float *weight, int64_t in, float *out,
                                                                int64_t out_width) {
    vec parts[BLOCK];
    for (int i = 0; i < BLOCK; i++) parts[i] = (vec){0};
    for (int64_t i = 0; i < in; i += BLOCK) {
        vec factor[4];
        for (int o = 0; o < 4; o++) factor[o] = load(weight + o * in + i);
        if (is_first)
            for (int o = 0; o < 4; o++) __builtin_prefetch(weight + (4 + o) * in + i, 0, 2);
        for (int t = 0; t < rows; t++) {
            vec value = load(x + t * in + i);
            for (int o = 0; o < 4; o++) parts[4 * t + o] += value * factor[o];
        }
    }
    vec sums = sums_of(parts);
    for (int t = 0; t < rows; t++) memcpy(out + t * out_width, (const float *)&sums + 4 * t, 4 * sizeof(float));
}

/* out[t][0..4] = x[t] . weight[0..4] for any number of rows. */
static void project_rows(int64_t rows, const float *x, const float *weight, int64_t in, float *out,
                          int64_t out_width) {
    int is_first = 1;
    for (; rows >= 4; rows -= 4, x += 4 * in, out += 4 * out_width, is_first = 0) {
        if (is_first)
            project_tile(4, 1, x, weight, in, out, out_width);
        else
            project_tile(4, 0, x, weight, in, out, out_width);
    }
    if (rows == 3) project_tile(3, is_first, x, weight, in, out, out_width);
    if (rows == 2) project_tile(2, is_first, x, weight, in, out, out_width);
    if (rows == 1) project_tile(1, is_first, x, weight, in, out, out_width);
}

/* hidden[t][r] = x[t] . a[r] for the ranks r, r + 1, ... of which there are `ranks`, at most four. */
static void project(const float *x, const float *a, int64_t tokens, int64_t ranks, int64_t width, float *hidden,
                    int64_t hidden_stride) {
    if (ranks == 4) {
        project_rows(tokens, x, a, width, hidden, hidden_stride);
        return;
    }
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t r = 0; r < ranks; r++) {
            vec sum = {0};
            for (int64_t i = 0; i < width; i += BLOCK) sum += load(x + t * width + i) * load(a + r * width + i);
            hidden[t * hidden_stride + r] = sum_of(sum);
        }
}

/* hidden[t][r] = x[t] . a[r] of every group's tokens, for the ranks from QUAD * quad on, at most QUAD of them. */
static void project_group(const float *x, const struct factors *factors, const struct range *range, int64_t quad,
                          int64_t in, float *hidden, int64_t most_rank) {
    int64_t r = quad * QUAD, left = factors->rank - r;
    if (left > 0)
        project(x + range->start * in, factors->a + r * in, range->stop - range->start, left < QUAD ? left : QUAD, in,
                hidden + range->start * most_rank + r, most_rank);
}

/* out[t][0..blocks * BLOCK] += hidden[t] . b[:][0..blocks * BLOCK] for `tokens` tokens. */
static inline __attribute__((always_inline)) void expand_tile(const int tokens, const int blocks, const float *hidden,
                                                              int64_t hidden_stride, const float *b, int64_t rank,
                                                              int64_t width, float *out) {
    vec sums[2 * 8];
    for (int t = 0; t < tokens; t++)
        for (int k = 0; k < blocks; k++) sums[t * blocks + k] = load(out + t * width + k * BLOCK);
    for (int64_t r = 0; r < rank; r++) {
        vec factor[2];
        for (int k = 0; k < blocks; k++) factor[k] = load(b + r * width + k * BLOCK);
        for (int t = 0; t < tokens; t++)
            for (int k = 0; k < blocks; k++) sums[t * blocks + k] += hidden[t * hidden_stride + r] * factor[k];
    }
    for (int t = 0; t < tokens; t++)
        for (int k = 0; k < blocks; k++) store(out + t * width + k * BLOCK, sums[t * blocks + k]);
}

static inline __attribute__((always_inline)) void expand_rows(const int blocks, int64_t tokens, const float *hidden,
                                                              int64_t hidden_stride, const float *b, int64_t rank,
                                                              int64_t width, float *out) {
    for (; tokens >= 8; tokens -= 8, hidden += 8 * hidden_stride, out += 8 * width)
        expand_tile(8, blocks, hidden, hidden_stride, b, rank, width, out);
    if (tokens >= 4) {
        expand_tile(4, blocks, hidden, hidden_stride, b, rank, width, out);
        tokens -= 4, hidden += 4 * hidden_stride, out += 4 * width;
    }
    if (tokens >= 2) {
        expand_tile(2, blocks, hidden, hidden_stride, b, rank, width, out);
        tokens -= 2, hidden += 2 * hidden_stride, out += 2 * width;
    }
    if (tokens) expand_tile(1, blocks, hidden, hidden_stride, b, rank, width, out);
}

/* out[t][0..outputs] += hidden[t] . b[:][0..outputs] for `tokens` tokens; outputs: one block or two. */
static void expand(int64_t outputs, int64_t tokens, const float *hidden, int64_t hidden_stride, const float *b,
                   int64_t rank, int64_t width, float *out) {
    for (int64_t r = 0; r < rank; r++)
        for (int64_t c = 0; c < outputs; c += BLOCK) __builtin_prefetch(b + r * width + c, 0, 2);
    if (outputs == BLOCK)
        expand_rows(1, tokens, hidden, hidden_stride, b, rank, width, out);
    else
        expand_rows(2, tokens, hidden, hidden_stride, b, rank, width, out);
}

#endif

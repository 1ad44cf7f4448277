/* What a decoding step does besides matrix products, for fp32 on a CPU.
 *
 * Keys and values lie in blocks of BLOCK positions: per block and kv head, keys as [head_dim][BLOCK], so that the
 * scores of a block are sums of whole vectors, and values as [BLOCK][head_dim].
 * Every result is a function of its own token and of the positions before it, whatever else is in the batch.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vectors.h"

#define MAX_QUERIES 12 /* accumulators that fit the vector registers */

static inline vec choose(ivec where, vec yes, vec no) { return (vec)(((ivec)yes & where) | ((ivec)no & ~where)); }

/* e^x, within [e^-87, e^88]. Cody and Waite's reduction, then Taylor to the sixth power. */
static inline vec exponential(vec x) {
    const vec low = spread(-87.0f), high = spread(88.0f);
    x = choose(x < low, low, x);
    x = choose(x > high, high, x);
    vec shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: rounds to a whole number */
    vec whole = shifted - 12582912.0f;
    vec r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec p = spread(1.0f / 720);
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    ivec power = (__builtin_convertvector(whole, ivec) + 127) << 23;
    return p * (vec)power;
}

static inline float largest_of(vec value) {
    float best = value[0];
    for (int lane = 1; lane < BLOCK; lane++) best = value[lane] > best ? value[lane] : best;
    return best;
}

/* out[t] = x[t] / sqrt(mean(x[t]^2) + eps) * weight; x, out [tokens, width], width a multiple of 16. */
void rms_norm(const float *x, const float *weight, float *out, int64_t tokens, int64_t width, float eps) {
#pragma omp parallel for schedule(static) if (tokens > 1 && tokens * width > SMALL)
    for (int64_t t = 0; t < tokens; t++) {
        const float *row = x + t * width;
        vec squares = {0};
        for (int64_t i = 0; i < width; i += BLOCK) {
            vec part = load(row + i);
            squares += part * part;
        }
        float scale = 1.0f / sqrtf(sum_of(squares) / (float)width + eps);
        for (int64_t i = 0; i < width; i += BLOCK)
            store(out + t * width + i, load(weight + i) * (load(row + i) * scale));
    }
}

/* gate[i] = gate[i] * sigmoid(gate[i]) * up[i]; count a multiple of 16. */
void silu_multiply(float *gate, const float *up, int64_t count) {
#pragma omp parallel for schedule(static) if (count > SMALL)
    for (int64_t i = 0; i < count; i += BLOCK) {
        vec g = load(gate + i);
        store(gate + i, g / (1.0f + exponential(-g)) * load(up + i));
    }
}

/* Rotates x [tokens, heads, width] in place, halves as pairs; cos, sin [tokens, width]; width a multiple of 32. */
void rotate(float *x, const float *cos, const float *sin, int64_t tokens, int64_t heads, int64_t width) {
    int64_t half = width / 2;
#pragma omp parallel for schedule(static) if (tokens * heads * width > SMALL)
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t h = 0; h < heads; h++) {
            float *row = x + (t * heads + h) * width;
            const float *c = cos + t * width, *s = sin + t * width;
            for (int64_t i = 0; i < half; i += BLOCK) {
                vec low = load(row + i), high = load(row + half + i);
                store(row + i, low * load(c + i) - high * load(s + i));
                store(row + half + i, high * load(c + half + i) + low * load(s + half + i));
            }
        }
}

/* Puts keys and values [tokens, kv_heads, head_dim] at their places (block * BLOCK + offset). */
void write_kv(const float *keys, const float *values, float *key_pool, float *value_pool, const int64_t *places,
              int64_t tokens, int64_t kv_heads, int64_t head_dim) {
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t h = 0; h < kv_heads; h++) {
            int64_t block = places[t] / BLOCK, offset = places[t] % BLOCK;
            float *k = key_pool + (block * kv_heads + h) * head_dim * BLOCK + offset;
            float *v = value_pool + ((block * kv_heads + h) * BLOCK + offset) * head_dim;
            const float *from = keys + (t * kv_heads + h) * head_dim;
            for (int64_t d = 0; d < head_dim; d++) k[d * BLOCK] = from[d];
            memcpy(v, values + (t * kv_heads + h) * head_dim, sizeof(float) * (size_t)head_dim);
        }
}

struct pool {
    const float *keys, *values;
    int64_t kv_heads, head_dim;
};

/* One tile: `n` queries [n][head_dim], scaled, that share a kv head, over `length` positions. ends[i]: positions that
 * query i attends to. scores: [n][length rounded up to a block]. out [n][head_dim]. */
static inline __attribute__((always_inline)) void attend_tile(const int n, const struct pool *pool, int64_t head,
                                                              const int32_t *table, int64_t length,
                                                              const float *queries, const int64_t *ends, float *scores,
                                                              float *out) {
    const int64_t width = pool->head_dim, blocks = (length + BLOCK - 1) / BLOCK, stride = blocks * BLOCK;
    for (int64_t b = 0; b < blocks; b++) {
        const float *keys = pool->keys + ((int64_t)table[b] * pool->kv_heads + head) * width * BLOCK;
        vec sums[MAX_QUERIES];
        for (int i = 0; i < n; i++) sums[i] = (vec){0};
        for (int64_t d = 0; d < width; d++) {
            vec key = load(keys + d * BLOCK);
            for (int i = 0; i < n; i++) sums[i] += queries[i * width + d] * key;
        }
        for (int i = 0; i < n; i++) store(scores + i * stride + b * BLOCK, sums[i]);
    }
    float totals[MAX_QUERIES];
    for (int i = 0; i < n; i++) {
        float *row = scores + i * stride;
        for (int64_t p = ends[i]; p < stride; p++) row[p] = -INFINITY;
        vec best = load(row);
        for (int64_t p = BLOCK; p < stride; p += BLOCK) {
            vec value = load(row + p);
            best = choose(value > best, value, best);
        }
        float most = largest_of(best);
        vec total = {0};
        for (int64_t p = 0; p < stride; p += BLOCK) {
            vec weight = exponential(load(row + p) - most);
            store(row + p, weight);
            total += weight;
        }
        /* what lies past the end must weigh nothing at all */
        float past = 0;
        for (int64_t p = ends[i]; p < stride; p++) {
            past += row[p];
            row[p] = 0;
        }
        totals[i] = 1.0f / (sum_of(total) - past);
    }
    for (int64_t d = 0; d < width; d += BLOCK) {
        vec sums[MAX_QUERIES];
        for (int i = 0; i < n; i++) sums[i] = (vec){0};
        for (int64_t b = 0; b < blocks; b++) {
            const float *values = pool->values + ((int64_t)table[b] * pool->kv_heads + head) * BLOCK * width + d;
            int64_t last = length - b * BLOCK < BLOCK ? length - b * BLOCK : BLOCK;
            for (int64_t p = 0; p < last; p++) {
                vec value = load(values + p * width);
                for (int i = 0; i < n; i++) sums[i] += scores[i * stride + b * BLOCK + p] * value;
            }
        }
        for (int i = 0; i < n; i++) store(out + i * width + d, sums[i] * totals[i]);
    }
}

#define CASE(N)                                                                            \
    case N:                                                                                \
        attend_tile(N, pool, head, table, length, queries, ends, scores, out);             \
        break;

static void attend_any(int n, const struct pool *pool, int64_t head, const int32_t *table, int64_t length,
                       const float *queries, const int64_t *ends, float *scores, float *out) {
    switch (n) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
    }
}

/* Attention of tokens over the blocks of their sequences.
 *
 * queries, out [tokens, heads, head_dim]; tile i holds tile_tokens[i] tokens from tile_starts[i] on, which have the
 * positions tile_positions[i], tile_positions[i] + 1, ... of the sequence whose blocks tables[tile_rows[i]] lists.
 * tables [.., table_width]. `longest`: most positions of any. At most MAX_QUERIES queries a tile and kv head.
 * Returns 0, or 1 without memory. */
int attend(const float *queries, float *out, const float *key_pool, const float *value_pool, const int32_t *tables,
           int64_t table_width, const int32_t *tile_starts, const int32_t *tile_tokens, const int32_t *tile_rows,
           const int32_t *tile_positions, int64_t tiles, int64_t heads, int64_t kv_heads, int64_t head_dim,
           int64_t longest, float scale) {
    const int64_t group = heads / kv_heads, stride = (longest + BLOCK - 1) / BLOCK * BLOCK;
    const struct pool pool = {key_pool, value_pool, kv_heads, head_dim};
    int failed = 0;
#pragma omp parallel
    {
        float *scores = malloc(sizeof(float) * (size_t)(MAX_QUERIES * (stride + 2 * head_dim)));
        float *own = scores + MAX_QUERIES * stride, *result = own + MAX_QUERIES * head_dim;
        if (!scores) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic)
        for (int64_t item = 0; item < tiles * kv_heads; item++) {
            int64_t tile = item / kv_heads, head = item % kv_heads, count = tile_tokens[tile];
            int64_t ends[MAX_QUERIES];
            if (!scores) continue;
            for (int64_t t = 0; t < count; t++)
                for (int64_t g = 0; g < group; g++) {
                    const float *from = queries + ((tile_starts[tile] + t) * heads + head * group + g) * head_dim;
                    float *to = own + (t * group + g) * head_dim;
                    for (int64_t d = 0; d < head_dim; d++) to[d] = from[d] * scale;
                    ends[t * group + g] = tile_positions[tile] + t + 1;
                }
            attend_any((int)(count * group), &pool, head, tables + tile_rows[tile] * table_width,
                       tile_positions[tile] + count, own, ends, scores, result);
            for (int64_t t = 0; t < count; t++)
                memcpy(out + ((tile_starts[tile] + t) * heads + head * group) * head_dim,
                       result + t * group * head_dim, sizeof(float) * (size_t)(group * head_dim));
        }
        free(scores);
    }
    return failed;
}

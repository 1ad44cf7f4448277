/* Matrix products, for fp32 on a CPU: with packed weights, and with the factors of adapters.
 *
 * A packed weight lies in panels of PANEL outputs, each [in][PANEL], so that a product reads it from end to end
 * and ends without sums over vectors. In fp32 the outputs of a panel follow each other. In bfloat16 outputs j and
 * BLOCK + j are the halves of one 32-bit number, so that a shift and a mask widen them. What is past the last output
 * is 0.
 * The sums of a row don't depend on how many others there are.
 */
#include <stddef.h>

#include "vectors.h"

#define PANEL 32
#define PASS 192      /* rows for which a panel is read again, so that they stay in the cache */
#define AHEAD 4096    /* bytes of weights that are fetched before they are needed */
#define CACHE_LINE 64 /* bytes */

#ifdef __AVX512F__
#define TILE 12 /* rows whose sums with a panel fit the vector registers */
#else
#define TILE 3
#endif

typedef uint32_t uvec __attribute__((vector_size(64)));

/* The weights of one input and PANEL outputs, as fp32. */
static inline __attribute__((always_inline)) void read_panel(const int is_half, const char *weight, vec *low,
                                                             vec *high) {
    memcpy(low, weight, sizeof *low);
    if (is_half) {
        uvec pairs = (uvec)*low;
        *low = (vec)(pairs << 16);
        *high = (vec)(pairs & 0xffff0000u);
    } else {
        memcpy(high, weight + sizeof *low, sizeof *high);
    }
}

/* out[t][0..outputs] = x[t] . panel for `rows` rows of x. The first tile of a panel fetches what comes behind it: the
 * processor, left alone, starts anew at every page, and waits for memory in between. */
static inline __attribute__((always_inline)) void panel_tile(const int is_half, const int rows, const int is_first,
                                                             const float *x, const char *panel, int64_t in, float *out,
                                                             int64_t out_width, int64_t outputs) {
    const int64_t step = is_half ? CACHE_LINE : 2 * CACHE_LINE;
    vec low[TILE], high[TILE];
    for (int t = 0; t < rows; t++) low[t] = high[t] = (vec){0};
    for (int64_t i = 0; i < in; i++, panel += step) {
        vec a, b;
        read_panel(is_half, panel, &a, &b);
        if (is_first)
            for (int64_t line = 0; line < step; line += CACHE_LINE) __builtin_prefetch(panel + AHEAD + line, 0, 2);
        for (int t = 0; t < rows; t++) {
            vec value = spread(x[t * in + i]);
            low[t] += value * a;
            high[t] += value * b;
        }
    }
    for (int t = 0; t < rows; t++) {
        float sums[PANEL];
        store(sums, low[t]);
        store(sums + BLOCK, high[t]);
        memcpy(out + t * out_width, sums, sizeof(float) * (size_t)outputs);
    }
}

#define CASE(N)                                                                        \
    case N:                                                                            \
        if (N > TILE) break;                                                           \
        if (is_first)                                                                  \
            panel_tile(is_half, N, 1, x, panel, in, out, out_width, outputs);          \
        else                                                                           \
            panel_tile(is_half, N, 0, x, panel, in, out, out_width, outputs);          \
        break;

static inline __attribute__((always_inline)) void panel_rows(const int is_half, int rows, int is_first, const float *x,
                                                             const char *panel, int64_t in, float *out,
                                                             int64_t out_width, int64_t outputs) {
    switch (rows) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
    }
}

static inline __attribute__((always_inline)) void multiply(const int is_half, const float *x, const char *weight,
                                                           float *out, int64_t rows, int64_t in, int64_t out_width) {
    const int64_t panels = (out_width + PANEL - 1) / PANEL, passes = (rows + PASS - 1) / PASS;
    const int64_t panel_bytes = in * PANEL * (is_half ? 2 : 4);
#pragma omp parallel for schedule(static) collapse(2) if (out_width * in > SMALL)
    for (int64_t pass = 0; pass < passes; pass++)
        for (int64_t p = 0; p < panels; p++) {
            const int64_t first = rows * pass / passes, count = rows * (pass + 1) / passes - first;
            const int64_t tiles = (count + TILE - 1) / TILE, left = out_width - p * PANEL;
            for (int64_t tile = 0; tile < tiles; tile++) {
                int64_t start = first + count * tile / tiles, stop = first + count * (tile + 1) / tiles;
                panel_rows(is_half, (int)(stop - start), tile == 0, x + start * in, weight + p * panel_bytes, in,
                           out + start * out_width + p * PANEL, out_width, left < PANEL ? left : PANEL);
            }
        }
}

/* out = x weight^T; x [rows, in], out [rows, out_width]; weight packed in fp32. */
void multiply_fp32(const float *x, const char *weight, float *out, int64_t rows, int64_t in, int64_t out_width) {
    multiply(0, x, weight, out, rows, in, out_width);
}

/* The same; weight packed in bfloat16. */
void multiply_bf16(const float *x, const char *weight, float *out, int64_t rows, int64_t in, int64_t out_width) {
    multiply(1, x, weight, out, rows, in, out_width);
}

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
static inline __attribute__((always_inline)) void multiply_tile(const int rows, const int is_first, const float *x,
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
static void multiply_rows(int64_t rows, const float *x, const float *weight, int64_t in, float *out,
                          int64_t out_width) {
    int is_first = 1;
    for (; rows >= 4; rows -= 4, x += 4 * in, out += 4 * out_width, is_first = 0) {
        if (is_first)
            multiply_tile(4, 1, x, weight, in, out, out_width);
        else
            multiply_tile(4, 0, x, weight, in, out, out_width);
    }
    if (rows == 3) multiply_tile(3, is_first, x, weight, in, out, out_width);
    if (rows == 2) multiply_tile(2, is_first, x, weight, in, out, out_width);
    if (rows == 1) multiply_tile(1, is_first, x, weight, in, out, out_width);
}

/* hidden[t][r] = x[t] . a[r] for the ranks r, r + 1, ... of which there are `ranks`, at most four. */
static void project(const float *x, const float *a, int64_t tokens, int64_t ranks, int64_t width, float *hidden,
                    int64_t hidden_stride) {
    if (ranks == 4) {
        multiply_rows(tokens, x, a, width, hidden, hidden_stride);
        return;
    }
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t r = 0; r < ranks; r++) {
            vec sum = {0};
            for (int64_t i = 0; i < width; i += BLOCK) sum += load(x + t * width + i) * load(a + r * width + i);
            hidden[t * hidden_stride + r] = sum_of(sum);
        }
}

/* out[t][0..BLOCK] += hidden[t] . b[:][0..BLOCK] for `tokens` tokens. */
static inline __attribute__((always_inline)) void expand_tile(const int tokens, const float *hidden,
                                                              int64_t hidden_stride, const float *b, int64_t rank,
                                                              int64_t width, float *out) {
    vec sums[8];
    for (int t = 0; t < tokens; t++) sums[t] = load(out + t * width);
    for (int64_t r = 0; r < rank; r++) {
        vec factor = load(b + r * width);
        for (int t = 0; t < tokens; t++) sums[t] += hidden[t * hidden_stride + r] * factor;
    }
    for (int t = 0; t < tokens; t++) store(out + t * width, sums[t]);
}

/* out[t] += (x[t] . a^T) . b for the tokens of every range, each with the factors of its own adapter.
 *
 * x [tokens, in], out [tokens, out_width], both widths multiples of 16; hidden: room for [tokens, most_rank].
 * The sums of a token don't depend on how many others its range has. */
void add_adapters(const float *x, float *out, float *hidden, const struct factors *factors, const struct range *ranges,
                  int64_t groups, int64_t most_rank, int64_t in, int64_t out_width) {
    const int64_t quads = (most_rank + 3) / 4, columns = out_width / BLOCK;
    const int64_t tokens = ranges[groups - 1].stop - ranges[0].start;
#pragma omp parallel if (tokens * in * most_rank > SMALL)
    {
#pragma omp for schedule(static) collapse(2)
        for (int64_t g = 0; g < groups; g++)
            for (int64_t q = 0; q < quads; q++) {
                int64_t r = q * 4, left = factors[g].rank - r, start = ranges[g].start;
                if (left > 0)
                    project(x + start * in, factors[g].a + r * in, ranges[g].stop - start, left < 4 ? left : 4, in,
                            hidden + start * most_rank + r, most_rank);
            }
#pragma omp for schedule(static)
        for (int64_t c = 0; c < columns; c++)
            for (int64_t g = 0; g < groups; g++) {
                const float *b = factors[g].b + c * BLOCK;
                int64_t rank = factors[g].rank, t = ranges[g].start;
                if (!rank) continue;
                for (; t + 8 <= ranges[g].stop; t += 8)
                    expand_tile(8, hidden + t * most_rank, most_rank, b, rank, out_width,
                                out + t * out_width + c * BLOCK);
                for (; t < ranges[g].stop; t++)
                    expand_tile(1, hidden + t * most_rank, most_rank, b, rank, out_width,
                                out + t * out_width + c * BLOCK);
            }
    }
}

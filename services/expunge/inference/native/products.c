/* Matrix products with packed weights, and what adapters add to them, for fp32 on a CPU.
 *
 * A packed weight lies in panels of PANEL outputs, each [in][PANEL], so that a product reads it from end to end
 * and ends without sums over vectors. In fp32 the outputs of a panel follow each other. In bfloat16 outputs j and
 * BLOCK + j are the halves of one 32-bit number, so that a shift and a mask widen them. What is past the last output
 * is 0.
 * The sums of a row don't depend on how many others there are.
 */
#include <stddef.h>

#include "adapters.h"

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

/* A layer's weight [out_width][in], packed, and its bias. */
struct weight {
    const char *panels;
    const float *bias; /* NULL: none */
    int64_t out_width, layer;
};

/* The adapters of all tokens: groups of neighbours, ascending. */
struct adapters {
    const struct factors *factors; /* [layers][groups] */
    const struct range *ranges;    /* [groups] */
    int64_t groups, most_rank;
    float *hidden; /* room for [weights][rows][most_rank] */
};

static inline int64_t panels_of(const struct weight *weight) { return (weight->out_width + PANEL - 1) / PANEL; }

/* What one panel of a layer has to be multiplied with: the rows of one pass. */
struct pass {
    const float *x; /* [rows][in] */
    float *out;     /* [rows][out_width] */
    int64_t first, stop, in;
    const struct adapters *adapters;
    const float *hidden; /* of this layer */
};

/* Adds to the columns of one panel what the adapters of the pass make of its rows. */
static void add_adapters(const struct pass *pass, const struct weight *weight, int64_t column, int64_t outputs) {
    const struct adapters *adapters = pass->adapters;
    const int64_t width = weight->out_width, most_rank = adapters->most_rank;
    for (int64_t g = 0; g < adapters->groups; g++) {
        const struct factors *own = adapters->factors + weight->layer * adapters->groups + g;
        const struct range *range = adapters->ranges + g;
        const int64_t start = range->start > pass->first ? range->start : pass->first;
        const int64_t tokens = (range->stop < pass->stop ? range->stop : pass->stop) - start;
        if (tokens > 0 && own->rank)
            expand(outputs, tokens, pass->hidden + start * most_rank, most_rank, own->b + column, own->rank, width,
                   pass->out + start * width + column);
    }
}

static inline __attribute__((always_inline)) void multiply_panel(const int is_half, const struct pass *pass,
                                                                 const struct weight *weight, int64_t p) {
    const int64_t in = pass->in, width = weight->out_width, column = p * PANEL, count = pass->stop - pass->first;
    const int64_t tiles = (count + TILE - 1) / TILE, outputs = width - column < PANEL ? width - column : PANEL;
    const char *panel = weight->panels + p * in * PANEL * (is_half ? 2 : 4);
    for (int64_t tile = 0; tile < tiles; tile++) {
        int64_t start = pass->first + count * tile / tiles, stop = pass->first + count * (tile + 1) / tiles;
        panel_rows(is_half, (int)(stop - start), tile == 0, pass->x + start * in, panel, in,
                   pass->out + start * width + column, width, outputs);
    }
    if (weight->bias)
        for (int64_t t = pass->first; t < pass->stop; t++)
            for (int64_t c = column; c < column + outputs; c++) pass->out[t * width + c] += weight->bias[c];
    add_adapters(pass, weight, column, outputs);
}

/* A function each, so that the compiler knows the format in the innermost loops. */
static __attribute__((noinline)) void panel_fp32(const struct pass *pass, const struct weight *weight, int64_t p) {
    multiply_panel(0, pass, weight, p);
}

static __attribute__((noinline)) void panel_bf16(const struct pass *pass, const struct weight *weight, int64_t p) {
    multiply_panel(1, pass, weight, p);
}

static void multiply(void (*panel)(const struct pass *, const struct weight *, int64_t), const float *x, float *out,
                     const struct weight *weights, int64_t count, int64_t rows, int64_t in,
                     const struct adapters *adapters) {
    const int64_t groups = adapters->groups, quads = (adapters->most_rank + QUAD - 1) / QUAD;
    const int64_t passes = (rows + PASS - 1) / PASS, room = rows * adapters->most_rank;
    int64_t panels = 0;
    for (int64_t w = 0; w < count; w++) panels += panels_of(weights + w);
#pragma omp parallel if (panels * PANEL * in > SMALL)
    {
        if (groups) {
#pragma omp for schedule(static) collapse(3)
            for (int64_t w = 0; w < count; w++)
                for (int64_t g = 0; g < groups; g++)
                    for (int64_t quad = 0; quad < quads; quad++)
                        project_group(x, adapters->factors + weights[w].layer * groups + g, adapters->ranges + g, quad,
                                      in, adapters->hidden + w * room, adapters->most_rank);
        }
#pragma omp for schedule(static)
        for (int64_t item = 0; item < passes * panels; item++) {
            int64_t number = item / panels, p = item % panels, w = 0;
            struct pass pass = {x, out, rows * number / passes, rows * (number + 1) / passes, in, adapters, NULL};
            for (; p >= panels_of(weights + w); w++) {
                p -= panels_of(weights + w);
                pass.out += rows * weights[w].out_width;
            }
            pass.hidden = adapters->hidden + w * room;
            panel(&pass, weights + w, p);
        }
    }
}

/* Layers that share their input, each out = x weight^T + bias + what the adapters of its tokens add.
 *
 * x [rows][in]; out: [rows][out_width] of each weight, one after the other. Where there are adapters, `in` and the
 * out_widths are multiples of BLOCK. The sums of a token don't depend on how many others there are. */
void multiply_fp32(const float *x, float *out, const struct weight *weights, int64_t count, int64_t rows, int64_t in,
                   const struct factors *factors, const struct range *ranges, int64_t groups, int64_t most_rank,
                   float *hidden) {
    const struct adapters adapters = {factors, ranges, groups, most_rank, hidden};
    multiply(panel_fp32, x, out, weights, count, rows, in, &adapters);
}

/* The same; weights packed in bfloat16. */
void multiply_bf16(const float *x, float *out, const struct weight *weights, int64_t count, int64_t rows, int64_t in,
                   const struct factors *factors, const struct range *ranges, int64_t groups, int64_t most_rank,
                   float *hidden) {
    const struct adapters adapters = {factors, ranges, groups, most_rank, hidden};
    multiply(panel_bf16, x, out, weights, count, rows, in, &adapters);
}

/* Sums over tokens of what the neurons of one group do, with every activation read once.

   What `MomentAccumulator` adds up by a dozen tensor operations, for rows of float32 or bfloat16 on a CPU. The sums of TILE
   neurons stay in registers for CHUNK tokens in float, and are then added to totals in double. In vectors of GCC and Clang. */

#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
enum { TILE = 64, CHUNK = 64, AHEAD = 8 };

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));

static inline floats from_float32(const float *here) {
    floats values;
    memcpy(&values, here, sizeof values);
    return values;
}

static inline floats from_bfloat16(const uint16_t *here) {
    halves read;
    memcpy(&read, here, sizeof read);
    return (floats)(__builtin_convertvector(read, words) << 16);
}

static inline void add(double *totals, floats sums) {
    for (int lane = 0; lane < LANES; lane++) totals[lane] += sums[lane];
}

/* Of z at [token, neuron], `row` numbers apart from token to token, with a multiple of TILE neurons: adds the sums of z - shift,
   (z - shift)^2, max(z, 0) and z > 0 to the rows of `totals`, each as long as there are neurons. */
#define DEFINE(name, type, read)                                                                                        \
    void name(const type *z, int64_t tokens, int64_t neurons, int64_t row, const float *shift, double *totals) {        \
        const floats zero = {0}, one = zero + 1;                                                                        \
        for (int64_t tile = 0; tile < neurons; tile += TILE)                                                            \
            for (int64_t token = 0; token < tokens; token += CHUNK)                                                     \
                for (int64_t neuron = tile; neuron < tile + TILE; neuron += LANES) {                                    \
                    const int64_t end = tokens - token < CHUNK ? tokens : token + CHUNK;                                \
                    const type *here = z + token * row + neuron;                                                        \
                    const floats middle = from_float32(shift + neuron);                                                 \
                    floats first = zero, second = zero, above = zero, positive = zero;                                  \
                    for (int64_t t = token; t < end; t++, here += row) {                                                \
                        __builtin_prefetch(here + AHEAD * row);                                                         \
                        const floats value = read(here), apart = value - middle;                                        \
                        const words is_positive = value > zero;                                                         \
                        first += apart;                                                                                 \
                        second += apart * apart;                                                                        \
                        above += (floats)(is_positive & (words)value);                                                  \
                        positive += (floats)(is_positive & (words)one);                                                 \
                    }                                                                                                   \
                    add(totals + neuron, first);                                                                        \
                    add(totals + neurons + neuron, second);                                                             \
                    add(totals + 2 * neurons + neuron, above);                                                          \
                    add(totals + 3 * neurons + neuron, positive);                                                       \
                }                                                                                                       \
    }

DEFINE(sums_of_float32, float, from_float32)
DEFINE(sums_of_bfloat16, uint16_t, from_bfloat16)

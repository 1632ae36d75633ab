/* Sixteen float lanes in plain C: one AVX-512 register, two of AVX2, four of NEON. */
#ifndef QSPLAT_VECTOR_H
#define QSPLAT_VECTOR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

/* may_alias: the same memory is read as scalars and as vectors. */
typedef float vfloat __attribute__((vector_size(64), may_alias));
typedef float vfloat_unaligned __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t vint __attribute__((vector_size(64), may_alias));
typedef uint16_t vushort __attribute__((vector_size(32), may_alias));
typedef uint32_t vuint __attribute__((vector_size(64), may_alias));

#ifdef __clang__
#define shuffle __builtin_shufflevector
#else
#define shuffle(a, b, ...) __builtin_shuffle(a, b, (vint){__VA_ARGS__})
#endif

static const vint IOTA_INT = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

INLINE vfloat all_lanes(float value) {
    return (vfloat){} + value;
}

/* Lanes of `yes` where the mask is set (all bits), of `no` elsewhere. */
INLINE vfloat choose(vint mask, vfloat yes, vfloat no) {
    return (vfloat)((mask & (vint)yes) | (~mask & (vint)no));
}

INLINE vfloat keep(vint mask, vfloat value) {
    return (vfloat)(mask & (vint)value);
}

INLINE vfloat vmin(vfloat a, vfloat b) {
    return choose(a < b, a, b);
}

INLINE vfloat vmax(vfloat a, vfloat b) {
    return choose(a > b, a, b);
}

INLINE vfloat vsqrt(vfloat value) {
#ifdef __clang__
    return __builtin_elementwise_sqrt(value);
#else
    for (int lane = 0; lane < LANES; lane++) value[lane] = sqrtf(value[lane]);
    return value;
#endif
}

INLINE vfloat vabs(vfloat value) {
    return (vfloat)((vint)value & INT32_MAX);
}

/* a * b + c rounded once. */
INLINE vfloat vfma(vfloat a, vfloat b, vfloat c) {
#ifdef __clang__
    return __builtin_elementwise_fma(a, b, c);
#else
    for (int lane = 0; lane < LANES; lane++) a[lane] = fmaf(a[lane], b[lane], c[lane]);
    return a;
#endif
}

INLINE int any(vint mask) {
    int64_t words[8], all = 0;
    memcpy(words, &mask, sizeof words);
    for (int i = 0; i < 8; i++) all |= words[i];
    return all != 0;
}

/* 2^q for -126 <= q < 128, relative error 2e-7; anything for other q. Adding 1.5 * 2^23 leaves round(q) in the low
 * bits of the mantissa: a compiler that is allowed to reassociate floats would delete it. */
INLINE vfloat vexp2(vfloat q) {
    const vfloat magic = all_lanes(12582912.0f);
    vfloat shifted = q + magic;
    vfloat f = q - (shifted - magic);
    vfloat p = f * 1.32647e-3f + 9.67151e-3f; /* minimax for the relative error on [-1/2, 1/2] */
    p = p * f + 5.550734e-2f;
    p = p * f + 0.24022242f;
    p = p * f + 0.69314698f;
    p = p * f + 1.0f;
    return (vfloat)((vuint)p + ((vuint)shifted << 23));
}

/* Rounds of a sum over lanes: neighbouring lanes, pairs of lanes and fours of lanes of two vectors are added, and the
 * sums of both vectors interleaved. */
INLINE vfloat join_pairs(vfloat a, vfloat b) {
    return shuffle(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
           shuffle(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
}

INLINE vfloat join_fours(vfloat a, vfloat b) {
    return shuffle(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
           shuffle(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
}

INLINE vfloat join_eights(vfloat a, vfloat b) {
    return shuffle(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +
           shuffle(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
}

/* Lane i of the result is the sum of the lanes of v[i]. */
INLINE vfloat sum_each(const vfloat v[16]) {
    vfloat a[8], b[4], c[2];
    for (int i = 0; i < 8; i++) a[i] = join_pairs(v[2 * i], v[2 * i + 1]);
    for (int i = 0; i < 4; i++) b[i] = join_fours(a[2 * i], a[2 * i + 1]);
    for (int i = 0; i < 2; i++) c[i] = join_eights(b[2 * i], b[2 * i + 1]);
    return shuffle(c[0], c[1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           shuffle(c[0], c[1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
}

/* A running sum over the lanes of many vectors. Half as wide as a vector where that one takes several registers, so
 * that the sums of a splat stay in registers. */
#ifdef __AVX512F__
typedef vfloat vsum;

INLINE vsum add(vsum sum, vfloat value) {
    return sum + value;
}

INLINE vsum add_product(vsum sum, vfloat a, vfloat b) {
    return sum + a * b;
}

INLINE vfloat total_each(const vsum sums[16]) {
    return sum_each(sums);
}
#else
typedef float vsum __attribute__((vector_size(32), may_alias));

INLINE vsum half_of(vfloat value, int high) {
    vsum half;
    memcpy(&half, (const char *)&value + (high ? sizeof half : 0), sizeof half);
    return half;
}

INLINE vsum add(vsum sum, vfloat value) {
    return sum + half_of(value, 0) + half_of(value, 1);
}

INLINE vsum add_product(vsum sum, vfloat a, vfloat b) {
    sum += half_of(a, 0) * half_of(b, 0);
    return sum + half_of(a, 1) * half_of(b, 1);
}

/* Lane i of the result is the total of sums[i]: the first rounds of sum_each on pairs of sums that are 8 apart. */
INLINE vfloat total_each(const vsum sums[16]) {
    vfloat v[8], a[4], b[2];
    for (int i = 0; i < 8; i++) {
        memcpy(&v[i], &sums[i], sizeof sums[i]);
        memcpy((char *)&v[i] + sizeof sums[i], &sums[i + 8], sizeof sums[i]);
    }
    for (int i = 0; i < 4; i++) a[i] = join_pairs(v[2 * i], v[2 * i + 1]);
    for (int i = 0; i < 2; i++) b[i] = join_fours(a[2 * i], a[2 * i + 1]);
    return join_eights(b[0], b[1]);
}
#endif

/* The first `count` floats at `from`, and 0 in the other lanes; a whole vector is not left to the C library. */
INLINE vfloat load_first(const float *from, int count) {
    vfloat value = {0};
    if (count >= LANES) return *(const vfloat_unaligned *)from;
    memcpy(&value, from, (size_t)count * sizeof(float));
    return value;
}

INLINE void store_first(float *to, vfloat value, int count) {
    if (count >= LANES)
        *(vfloat_unaligned *)to = value;
    else
        memcpy(to, &value, (size_t)count * sizeof(float));
}

/* Fetch `count` floats into the cache, which are needed soon. */
INLINE void prefetch(const float *from, int count) {
    for (int i = 0; i < count; i += LANES) __builtin_prefetch(from + i);
}

/* Turn a matrix of 16 rows into its transpose: four times, interleave the upper half of the rows with the lower. */
INLINE void transpose(vfloat v[16]) {
    vfloat a[16];
    for (int round = 0; round < 4; round++) {
        memcpy(a, v, sizeof a);
        for (int i = 0; i < 8; i++) {
            v[2 * i] = shuffle(a[i], a[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            v[2 * i + 1] = shuffle(a[i], a[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
    }
}

#endif

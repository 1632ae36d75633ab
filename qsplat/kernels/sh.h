/* Real spherical harmonics up to degree 3 and their derivatives, sixteen directions at a time. The slow twin with the
 * sources is ../render/sh.py. */
#ifndef QSPLAT_SH_H
#define QSPLAT_SH_H

#include "vector.h"

#define MAX_HARMONICS 16
#define SH_0 0.28209479177387814f  /* 1 / (2 sqrt(pi)) */
#define SH_1 0.48860251190291992f  /* sqrt(3 / (4 pi)) */
#define SH_2 1.0925484305920792f   /* sqrt(15 / (4 pi)) */
#define SH_2Z 0.31539156525252005f /* sqrt(5 / (16 pi)) */
#define SH_3A 0.59004358992664352f /* sqrt(35 / (32 pi)) */
#define SH_3B 2.8906114426405538f  /* sqrt(105 / (4 pi)) */
#define SH_3C 0.45704579946446572f /* sqrt(21 / (32 pi)) */
#define SH_3Z 0.37317633259011546f /* sqrt(7 / (16 pi)) */

/* The first `count` (1, 4, 9 or 16) basis functions at unit directions. */
INLINE void sh_basis(const vfloat direction[3], int count, vfloat *basis) {
    vfloat x = direction[0], y = direction[1], z = direction[2], xx = x * x, yy = y * y, zz = z * z;
    basis[0] = all_lanes(SH_0);
    if (count < 4) return;
    basis[1] = -SH_1 * y;
    basis[2] = SH_1 * z;
    basis[3] = -SH_1 * x;
    if (count < 9) return;
    basis[4] = SH_2 * x * y;
    basis[5] = -SH_2 * y * z;
    basis[6] = SH_2Z * (2 * zz - xx - yy);
    basis[7] = -SH_2 * x * z;
    basis[8] = SH_2 / 2 * (xx - yy);
    if (count < 16) return;
    basis[9] = -SH_3A * y * (3 * xx - yy);
    basis[10] = SH_3B * x * y * z;
    basis[11] = -SH_3C * y * (4 * zz - xx - yy);
    basis[12] = SH_3Z * z * (2 * zz - 3 * xx - 3 * yy);
    basis[13] = -SH_3C * x * (4 * zz - xx - yy);
    basis[14] = SH_3B / 2 * z * (xx - yy);
    basis[15] = -SH_3A * x * (xx - 3 * yy);
}

/* Gradient with respect to the direction of the sum of basis functions weighted by `weight`. */
INLINE void sh_basis_backward(const vfloat direction[3], int count, const vfloat *weight, vfloat grad[3]) {
    vfloat x = direction[0], y = direction[1], z = direction[2], xx = x * x, yy = y * y, zz = z * z;
    grad[0] = grad[1] = grad[2] = all_lanes(0);
    if (count < 4) return;
    grad[0] = -SH_1 * weight[3];
    grad[1] = -SH_1 * weight[1];
    grad[2] = SH_1 * weight[2];
    if (count < 9) return;
    grad[0] += SH_2 * (y * weight[4] - z * weight[7] + x * weight[8]) - 2 * SH_2Z * x * weight[6];
    grad[1] += SH_2 * (x * weight[4] - z * weight[5] - y * weight[8]) - 2 * SH_2Z * y * weight[6];
    grad[2] += 4 * SH_2Z * z * weight[6] - SH_2 * (y * weight[5] + x * weight[7]);
    if (count < 16) return;
    grad[0] += SH_3A * (-6 * x * y * weight[9] - 3 * (xx - yy) * weight[15]) +
               SH_3B * (y * z * weight[10] + x * z * weight[14]) - 6 * SH_3Z * x * z * weight[12] +
               SH_3C * (2 * x * y * weight[11] - (4 * zz - 3 * xx - yy) * weight[13]);
    grad[1] += SH_3A * (6 * x * y * weight[15] - 3 * (xx - yy) * weight[9]) +
               SH_3B * (x * z * weight[10] - y * z * weight[14]) - 6 * SH_3Z * y * z * weight[12] +
               SH_3C * (2 * x * y * weight[13] - (4 * zz - xx - 3 * yy) * weight[11]);
    grad[2] += SH_3B * (x * y * weight[10] + 0.5f * (xx - yy) * weight[14]) +
               SH_3Z * (6 * zz - 3 * xx - 3 * yy) * weight[12] - 8 * SH_3C * z * (y * weight[11] + x * weight[13]);
}

#endif

/* Sixteen splats at a time from the world to the image: what both passes of the projection compute. */
#ifndef QSPLAT_PROJECTION_H
#define QSPLAT_PROJECTION_H

#include "kernels.h"
#include "parallel.h"
#include "sh.h"
#include "vector.h"

#define FOV_MARGIN 0.15f

typedef struct {
    const Projection *p;
    float *pose_sums; /* POSE_SUMS per chunk */
    float center[3];
    _Atomic int64_t next;
} Job;

/* Sixteen splats: what they are, and what the forward pass makes of them. */
typedef struct {
    vfloat mean[3], quat[4], scale[3], opacity;
    vfloat length, unit[4], rotation[3][3], camera[3];
    vfloat slope[2];                  /* x/z and y/z, clamped */
    vint sloping[2];                  /* not clamped */
    vfloat axes[3][3];                /* W R diag(s) */
    vfloat zoom[2], root[2][3];       /* fx/z, fy/z; J W R diag(s) */
    vfloat a, b, c, det, det_sharp;   /* covariance with blur; determinants with and without it */
    vfloat factor;                    /* of the opacity, for antialiasing */
} Group;

/* Asks for one row of `row` floats for each of the sixteen splats after those from `first` on. */
INLINE void prefetch_next(const Projection *p, const float *rows, int64_t first, int row) {
    int64_t next = first + LANES, left = p->count - next;
    if (left > 0) prefetch(rows + next * row, (int)(left < LANES ? left : LANES) * row);
}

INLINE void load(const Projection *p, int64_t first, int lanes, vint wanted, Group *g) {
    float rows[LANES][LANES] __attribute__((aligned(64))) = {{0}};
    for (int i = 0; i < lanes; i++) {
        memcpy(rows[i], p->means + (first + i) * 3, 3 * sizeof(float));
        memcpy(rows[i] + 3, p->quats + (first + i) * 4, 4 * sizeof(float));
        memcpy(rows[i] + 7, p->scales + (first + i) * 3, 3 * sizeof(float));
        rows[i][10] = p->opacities[first + i];
    }
    vfloat *v = (vfloat *)rows;
    transpose(v);
    for (int i = 0; i < 3; i++) g->mean[i] = keep(wanted, v[i]), g->scale[i] = keep(wanted, v[7 + i]);
    for (int i = 0; i < 4; i++) g->quat[i] = keep(wanted, v[3 + i]);
    g->opacity = keep(wanted, v[10]);
}

INLINE void project(const Projection *p, Group *g) {
    const float *pose = p->pose;
    const float center[2] = {p->cx, p->cy}, focal[2] = {p->fx, p->fy}, size[2] = {(float)p->width, (float)p->height};
    for (int i = 0; i < 3; i++)
        g->camera[i] = g->mean[0] * pose[4 * i] + g->mean[1] * pose[4 * i + 1] + g->mean[2] * pose[4 * i + 2] +
                       pose[4 * i + 3];
    const vfloat *q = g->quat;
    vfloat squares = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3];
    g->length = vmax(vsqrt(squares), all_lanes(1e-12f));
    for (int i = 0; i < 4; i++) g->unit[i] = g->quat[i] / g->length;
    vfloat w = g->unit[0], x = g->unit[1], y = g->unit[2], z = g->unit[3];
    vfloat rotation[3][3] = {
        {1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)},
        {2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)},
        {2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)},
    };
    memcpy(g->rotation, rotation, sizeof rotation);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            g->axes[i][j] = (rotation[0][j] * pose[4 * i] + rotation[1][j] * pose[4 * i + 1] +
                             rotation[2][j] * pose[4 * i + 2]) * g->scale[j];
    for (int i = 0; i < 2; i++) {
        float margin = FOV_MARGIN * size[i];
        vfloat low = all_lanes(-(center[i] + margin) / focal[i]);
        vfloat high = all_lanes((size[i] - center[i] + margin) / focal[i]);
        vfloat slope = g->camera[i] / g->camera[2];
        g->sloping[i] = (slope >= low) & (slope <= high);
        g->slope[i] = vmin(vmax(slope, low), high);
        g->zoom[i] = focal[i] / g->camera[2];
        for (int j = 0; j < 3; j++) g->root[i][j] = g->zoom[i] * (g->axes[i][j] - g->slope[i] * g->axes[2][j]);
    }
    const vfloat *u = g->root[0], *v = g->root[1];
    vfloat sharp_a = u[0] * u[0] + u[1] * u[1] + u[2] * u[2], sharp_c = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
    /* The squared length of the cross product (Lagrange's identity): a c - b^2 loses thin splats to cancellation. */
    vfloat n0 = u[1] * v[2] - u[2] * v[1], n1 = u[2] * v[0] - u[0] * v[2], n2 = u[0] * v[1] - u[1] * v[0];
    g->a = sharp_a + p->blur;
    g->b = u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
    g->c = sharp_c + p->blur;
    g->det_sharp = n0 * n0 + n1 * n1 + n2 * n2;
    g->det = vmax(g->det_sharp + p->blur * (sharp_a + sharp_c) + p->blur * p->blur, all_lanes(1e-10f));
    g->factor = p->antialiased ? vsqrt(g->det_sharp / g->det) : all_lanes(1);
}

/* Harmonics of sixteen splats, coefficient-major: the value of coefficient k and channel c is sh[3 k + c]. */
INLINE void load_sh(const Projection *p, int64_t first, int lanes, vfloat *sh) {
    const int width = 3 * p->harmonics;
    prefetch_next(p, p->sh, first, width);
    for (int from = 0; from < width; from += LANES) {
        vfloat *rows = sh + from;
        if (lanes < LANES) memset(rows, 0, LANES * sizeof *rows);
        for (int i = 0; i < lanes; i++) rows[i] = load_first(p->sh + (first + i) * width + from, width - from);
        transpose(rows);
    }
}

/* A record up to its features. Copies of a size that is known are not left to the C library. */
INLINE void copy_record(float *to, const float *from, int colors) {
    memcpy(to, from, RECORD * sizeof(float));
    if (colors) memcpy(to + RECORD, from + RECORD, 3 * sizeof(float));
}

/* Unit directions from the camera centre and the distances. */
INLINE vfloat view_direction(const Job *job, const Group *g, vfloat *direction) {
    for (int i = 0; i < 3; i++) direction[i] = g->mean[i] - job->center[i];
    vfloat squares = direction[0] * direction[0] + direction[1] * direction[1] + direction[2] * direction[2];
    vfloat distance = vmax(vsqrt(squares), all_lanes(1e-12f));
    for (int i = 0; i < 3; i++) direction[i] /= distance;
    return distance;
}

INLINE Job job_of(const Projection *p) {
    Job job = {.p = p};
    for (int i = 0; i < 3; i++)
        job.center[i] = -(p->pose[i] * p->pose[3] + p->pose[4 + i] * p->pose[7] + p->pose[8 + i] * p->pose[11]);
    return job;
}

#endif

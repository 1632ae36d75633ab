/* Gradients of the projection with respect to splats and pose. */
#include <stdlib.h>

#include "projection.h"

#define CHUNK 64     /* vectors of splats whose pose gradients are summed together, by whatever thread */
#define POSE_SUMS 16 /* gradients of the rotation (9), the translation (3) and the camera centre (3) */

/* Gradients of the covariance (a, b, c) and of the opacity before antialiasing. */
INLINE void inverse_backward(const Projection *p, const Group *g, const vfloat *grad, vfloat *grad_cov,
                             vfloat *grad_opacity) {
    vfloat ka = g->c / g->det, kb = -g->b / g->det, kc = g->a / g->det;
    grad_cov[0] = -(ka * ka * grad[0] + ka * kb * grad[1] + kb * kb * grad[2]);
    grad_cov[1] = -(2 * ka * kb * grad[0] + (ka * kc + kb * kb) * grad[1] + 2 * kb * kc * grad[2]);
    grad_cov[2] = -(kb * kb * grad[0] + kb * kc * grad[1] + kc * kc * grad[2]);
    *grad_opacity = grad[3] * g->factor;
    if (!p->antialiased) return;
    vfloat grad_factor = grad[3] * g->opacity * 0.5f / g->det;
    vfloat grad_sharp = keep(g->factor > 0, grad_factor / g->factor), grad_det = -grad_factor * g->factor;
    grad_cov[0] += grad_sharp * (g->c - p->blur) + grad_det * g->c;
    grad_cov[1] -= 2 * g->b * (grad_sharp + grad_det);
    grad_cov[2] += grad_sharp * (g->a - p->blur) + grad_det * g->a;
}

INLINE void quaternion_backward(const Group *g, vfloat r[3][3], vfloat *grad_quat) {
    vfloat w = g->unit[0], x = g->unit[1], y = g->unit[2], z = g->unit[3];
    vfloat v[4] = {
        2 * (z * (r[1][0] - r[0][1]) + y * (r[0][2] - r[2][0]) + x * (r[2][1] - r[1][2])),
        2 * (y * (r[0][1] + r[1][0]) + z * (r[0][2] + r[2][0]) - 2 * x * (r[1][1] + r[2][2]) + w * (r[2][1] - r[1][2])),
        2 * (x * (r[0][1] + r[1][0]) + z * (r[1][2] + r[2][1]) - 2 * y * (r[0][0] + r[2][2]) + w * (r[0][2] - r[2][0])),
        2 * (x * (r[0][2] + r[2][0]) + y * (r[1][2] + r[2][1]) - 2 * z * (r[0][0] + r[1][1]) + w * (r[1][0] - r[0][1])),
    };
    vfloat along = w * v[0] + x * v[1] + y * v[2] + z * v[3];
    for (int i = 0; i < 4; i++) grad_quat[i] = (v[i] - g->unit[i] * along) / g->length;
}

/* Lanes a, b, c, a, b, c and so on. */
INLINE vfloat in_turn(vfloat a, vfloat b, vfloat c) {
    vfloat both = shuffle(a, b, 0, 17, 2, 3, 20, 5, 6, 23, 8, 9, 26, 11, 12, 29, 14, 15);
    return shuffle(both, c, 0, 1, 18, 3, 4, 21, 6, 7, 24, 9, 10, 27, 12, 13, 30, 15);
}

/* Gradients through colour: writes those of the harmonics, returns those of the mean (through the direction). */
static void color_backward(const Job *job, const Group *group, int64_t first, int lanes, const vfloat *grad,
                           vfloat *grad_mean) {
    const Projection *p = job->p;
    const int width = 3 * p->harmonics;
    vfloat sh[MAX_HARMONICS * 3], basis[MAX_HARMONICS], along[MAX_HARMONICS], direction[3], slope[3];
    vfloat distance = view_direction(job, group, direction);
    sh_basis(direction, p->harmonics, basis);
    if (p->grad_means || p->grad_pose) {
        load_sh(p, first, lanes, sh);
        for (int k = 0; k < p->harmonics; k++)
            along[k] = grad[0] * sh[3 * k] + grad[1] * sh[3 * k + 1] + grad[2] * sh[3 * k + 2];
        sh_basis_backward(direction, p->harmonics, along, slope);
        vfloat radial = direction[0] * slope[0] + direction[1] * slope[1] + direction[2] * slope[2];
        for (int i = 0; i < 3; i++) grad_mean[i] = (slope[i] - direction[i] * radial) / distance;
    }
    if (!p->grad_sh) return;
    for (int k = p->harmonics; k < MAX_HARMONICS; k++) basis[k] = all_lanes(0);
    transpose(basis);
    for (int i = 0; i < lanes; i++) {
        vfloat r = all_lanes(grad[0][i]), g = all_lanes(grad[1][i]), b = all_lanes(grad[2][i]), own = basis[i];
        vfloat colors[3] = {in_turn(r, g, b), in_turn(g, b, r), in_turn(b, r, g)};
        vfloat thrice[3] = {
            shuffle(own, own, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5),
            shuffle(own, own, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10),
            shuffle(own, own, 10, 11, 11, 11, 12, 12, 12, 13, 13, 13, 14, 14, 14, 15, 15, 15),
        };
        float *row = p->grad_sh + (first + i) * width;
        for (int part = 0; part < 3; part++)
            if (width > part * LANES)
                store_first(row + part * LANES, thrice[part] * colors[part], width - part * LANES);
    }
}

static void zero_group(const Projection *p, int64_t first, int lanes) {
    size_t size = (size_t)lanes * sizeof(float);
    if (p->grad_means) memset(p->grad_means + first * 3, 0, size * 3);
    if (p->grad_quats) memset(p->grad_quats + first * 4, 0, size * 4);
    if (p->grad_scales) memset(p->grad_scales + first * 3, 0, size * 3);
    if (p->grad_opacities) memset(p->grad_opacities + first, 0, size);
    if (p->grad_sh) memset(p->grad_sh + first * 3 * p->harmonics, 0, size * 3 * (size_t)p->harmonics);
    if (p->grad_features) memset(p->grad_features + first * p->features_width, 0, size * (size_t)p->features_width);
}

/* Adds the gradients of the pose to `sums` and writes all others. */
static void backward_group(const Job *job, int64_t first, int lanes, vfloat *sums) {
    const Projection *p = job->p;
    const float *pose = p->pose;
    const int colors = p->harmonics ? 3 : 0, width = RECORD + colors + p->features_width;
    vint seen = {0};
    for (int i = 0; i < lanes; i++) seen[i] = p->radii[first + i] > 0 ? -1 : 0;
    if (!any(seen)) {
        zero_group(p, first, lanes);
        return;
    }
    Group g;
    if (p->grad_sh) prefetch_next(p, p->grad_sh, first, 3 * p->harmonics);
    load(p, first, lanes, seen, &g);
    project(p, &g);

    float rows[LANES][LANES] __attribute__((aligned(64))) = {{0}};
    for (int i = 0; i < lanes; i++) {
        int64_t splat = first + i;
        if (!p->radii[splat]) continue;
        copy_record(rows[i], p->grad_records + splat * width, colors);
        memcpy(rows[i] + 8, p->grad_means2d + 2 * splat, 2 * sizeof(float));
        if (colors) memcpy(rows[i] + 10, p->records + splat * width + RECORD, 3 * sizeof(float));
    }
    vfloat *grad = (vfloat *)rows;
    transpose(grad);
    vfloat grad_cov[3], grad_opacity, grad_camera[3], grad_axes[3][3], grad_quat[4], grad_scale[3], grad_mean[3] = {0};
    inverse_backward(p, &g, grad, grad_cov, &grad_opacity);
    grad_camera[2] = grad[4];
    for (int j = 0; j < 3; j++) grad_axes[2][j] = all_lanes(0);
    for (int i = 0; i < 2; i++) {
        const vfloat *own = g.root[i], *other = g.root[1 - i];
        vfloat grad_zoom = grad[8 + i] * g.camera[i], grad_slope = all_lanes(0);
        for (int j = 0; j < 3; j++) {
            vfloat grad_root = 2 * grad_cov[2 * i] * own[j] + grad_cov[1] * other[j];
            grad_axes[i][j] = g.zoom[i] * grad_root;
            grad_axes[2][j] -= g.slope[i] * grad_axes[i][j];
            grad_zoom += grad_root * (g.axes[i][j] - g.slope[i] * g.axes[2][j]);
            grad_slope -= grad_axes[i][j] * g.axes[2][j];
        }
        grad_slope = keep(g.sloping[i], grad_slope) / g.camera[2];
        grad_camera[i] = grad[8 + i] * g.zoom[i] + grad_slope;
        grad_camera[2] -= (grad_zoom * g.zoom[i]) / g.camera[2] + grad_slope * g.slope[i];
    }
    vfloat grad_rotation[3][3];
    for (int j = 0; j < 3; j++) {
        grad_scale[j] = all_lanes(0);
        for (int i = 0; i < 3; i++) {
            vfloat world = grad_axes[0][j] * pose[i] + grad_axes[1][j] * pose[4 + i] + grad_axes[2][j] * pose[8 + i];
            grad_scale[j] += world * g.rotation[i][j];
            grad_rotation[i][j] = world * g.scale[j];
        }
    }
    quaternion_backward(&g, grad_rotation, grad_quat);
    if (colors) {
        for (int k = 0; k < 3; k++) grad[RECORD + k] = keep(seen & (grad[10 + k] > 0), grad[RECORD + k]);
        color_backward(job, &g, first, lanes, grad + RECORD, grad_mean);
    }
    if (p->grad_pose)
        for (int i = 0; i < 3; i++) {
            for (int j = 0; j < 3; j++) {
                vfloat turned = grad_camera[i] * g.mean[j];
                for (int k = 0; k < 3; k++) turned += grad_axes[i][k] * g.rotation[j][k] * g.scale[k];
                sums[3 * i + j] += keep(seen, turned);
            }
            sums[9 + i] += keep(seen, grad_camera[i]);
            sums[12 + i] -= keep(seen, grad_mean[i]);
        }
    for (int j = 0; j < 3; j++)
        grad_mean[j] += grad_camera[0] * pose[j] + grad_camera[1] * pose[4 + j] + grad_camera[2] * pose[8 + j];

    vfloat out[LANES] = {grad_mean[0], grad_mean[1], grad_mean[2], grad_quat[0], grad_quat[1], grad_quat[2],
                         grad_quat[3], grad_scale[0], grad_scale[1], grad_scale[2], grad_opacity};
    for (int k = 0; k < 11; k++) out[k] = keep(seen, out[k]);
    transpose(out);
    for (int i = 0; i < lanes; i++) {
        int64_t splat = first + i;
        const float *row = (const float *)&out[i];
        if (p->grad_means) memcpy(p->grad_means + splat * 3, row, 3 * sizeof(float));
        if (p->grad_quats) memcpy(p->grad_quats + splat * 4, row + 3, 4 * sizeof(float));
        if (p->grad_scales) memcpy(p->grad_scales + splat * 3, row + 7, 3 * sizeof(float));
        if (p->grad_opacities) p->grad_opacities[splat] = row[10];
        if (p->grad_features) {
            const float *from = p->grad_records + splat * width + RECORD + colors;
            memcpy(p->grad_features + splat * p->features_width, from, (size_t)p->features_width * sizeof(float));
        }
    }
}

static void backward(void *argument, Team *team, int rank) {
    Job *job = argument;
    const int64_t count = job->p->count, chunks = (count + LANES * CHUNK - 1) / (LANES * CHUNK);
    (void)team, (void)rank;
    for (int64_t chunk; (chunk = job->next++) < chunks;) {
        vfloat sums[LANES] = {{0}};
        int64_t end = (chunk + 1) * LANES * CHUNK;
        if (end > count) end = count;
        for (int64_t first = chunk * LANES * CHUNK; first < end; first += LANES)
            backward_group(job, first, (int)(end - first < LANES ? end - first : LANES), sums);
        *(vfloat_unaligned *)(job->pose_sums + chunk * POSE_SUMS) = sum_each(sums);
    }
}

int qsplat_project_backward(const Projection *p) {
    Job job = job_of(p);
    const int64_t chunks = (p->count + LANES * CHUNK - 1) / (LANES * CHUNK);
    double sums[POSE_SUMS] = {0};
    job.pose_sums = malloc((size_t)(chunks + 1) * POSE_SUMS * sizeof(float));
    if (!job.pose_sums) return 1;
    team_run(p->threads, backward, &job);
    for (int64_t i = 0; i < chunks * POSE_SUMS; i++) sums[i % POSE_SUMS] += job.pose_sums[i];
    free(job.pose_sums);
    if (!p->grad_pose) return 0;
    memset(p->grad_pose, 0, 16 * sizeof(float));
    for (int i = 0; i < 3; i++) { /* the camera centre is -W^T t */
        double translation = sums[9 + i];
        for (int j = 0; j < 3; j++) {
            p->grad_pose[4 * i + j] = (float)(sums[3 * i + j] - p->pose[4 * i + 3] * sums[12 + j]);
            translation -= p->pose[4 * i + j] * sums[12 + j];
        }
        p->grad_pose[4 * i + 3] = (float)translation;
    }
    return 0;
}

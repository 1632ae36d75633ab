/* Splats in the world to records of 2D Gaussians. The equation is in ../render/contract.py, the slow twin in
 * ../render/projection.py and ../render/sh.py. */
#include "projection.h"

INLINE vint is_finite(vfloat value) {
    return ((vint)value & 0x7f800000) != 0x7f800000;
}

static void forward_group(const Job *job, int64_t first, int lanes) {
    const Projection *p = job->p;
    const int colors = p->harmonics ? 3 : 0, width = RECORD + colors + p->features_width;
    Group g;
    load(p, first, lanes, IOTA_INT < lanes, &g);
    project(p, &g);
    vfloat z = g.camera[2], middle = (g.a + g.c) * 0.5f, half = (g.a - g.c) * 0.5f;
    vfloat radius = vsqrt(middle + vsqrt(vmax(half * half + g.b * g.b, all_lanes(0.01f)))) * 3;
    vfloat out[LANES] = {
        g.c / g.det, -g.b / g.det, g.a / g.det, g.opacity * g.factor, z, all_lanes(0), all_lanes(0), all_lanes(0),
        g.camera[0] * g.zoom[0] + p->cx, g.camera[1] * g.zoom[1] + p->cy,
    };
    vint seen = (IOTA_INT < lanes) & (z > p->near) & (z < p->far) & (out[3] > 0);
    seen &= is_finite(g.length) & is_finite(radius);
    for (int k = 0; k < 10; k++) seen &= is_finite(out[k]);
    radius = vmin(keep(is_finite(radius), radius), all_lanes(1e9f));
    vint whole = __builtin_convertvector(radius, vint);
    whole -= __builtin_convertvector(whole, vfloat) < radius; /* ceil: a mask is -1 */
    radius = __builtin_convertvector(whole, vfloat);
    seen &= (out[8] + radius > 0) & (out[9] + radius > 0);
    seen &= (out[8] - radius < (float)p->width) & (out[9] - radius < (float)p->height);
    if (colors && any(seen)) {
        vfloat sh[MAX_HARMONICS * 3], basis[MAX_HARMONICS], direction[3];
        load_sh(p, first, lanes, sh);
        view_direction(job, &g, direction);
        sh_basis(direction, p->harmonics, basis);
        for (int channel = 0; channel < 3; channel++) {
            vfloat value = all_lanes(0.5f);
            for (int k = 0; k < p->harmonics; k++) value += basis[k] * sh[3 * k + channel];
            seen &= is_finite(value);
            out[RECORD + channel] = vmax(value, all_lanes(0));
        }
    }
    transpose(out);
    int32_t radii[LANES], visible[LANES];
    memcpy(radii, &whole, sizeof radii);
    memcpy(visible, &seen, sizeof visible);
    for (int i = 0; i < lanes; i++) {
        int64_t splat = first + i;
        const float *row = (const float *)&out[i], *features = p->features + splat * p->features_width;
        float *record = p->records + splat * width;
        float poison = 0; /* NaN as soon as one feature is not finite */
        for (int k = 0; k < p->features_width; k++) poison += features[k] * 0.0f;
        if (visible[i] && poison == 0) {
            copy_record(record, row, colors);
            for (int k = 0; k < p->features_width; k++) record[RECORD + colors + k] = features[k];
            memcpy(p->means2d + 2 * splat, row + 8, 2 * sizeof(float));
            p->radii[splat] = radii[i];
        } else {
            memset(record, 0, (size_t)width * sizeof(float));
            memset(p->means2d + 2 * splat, 0, 2 * sizeof(float));
            p->radii[splat] = 0;
        }
    }
}

static void forward(void *argument, Team *team, int rank) {
    Job *job = argument;
    const int64_t count = job->p->count, groups = (count + LANES - 1) / LANES;
    for (int64_t group = share(team, rank, groups); group < share(team, rank + 1, groups); group++)
        forward_group(job, group * LANES, (int)(count - group * LANES < LANES ? count - group * LANES : LANES));
}

int qsplat_project_forward(const Projection *p) {
    Job job = job_of(p);
    team_run(p->threads, forward, &job);
    return 0;
}

/* The photometric loss and its gradient. The equations and the slow twin are in ../training/losses.py and
 * ../training/ssim.py.
 *
 * Rows stay interleaved: the next pixel of a channel is `channels` floats further, so one loop does for all channels.
 * First every row of the SSIM map: rows of the images are blurred along x into a ring of WINDOW rows, the ring along y;
 * of each pixel of the map three slopes are kept. Then every row of the gradient gathers the slopes around it, along y
 * and along x. Sums are kept per row, so that the result does not depend on the number of threads. */
#include "kernels.h"
#include "parallel.h"
#include "vector.h"
#include "workspace.h"

#define WINDOW 11
#define MOMENTS 4 /* means under the window of x, y, x^2 + y^2 and xy */
#define SLOPES_KEPT 3
#define C1 1e-4f
#define C2 9e-4f

typedef struct {
    const PhotometricLoss *loss;
    Workspace *work;
    float window[WINDOW];
    int row, map_row, map_height; /* floats of a row of the images, of the map; rows of the map */
    int stride;                   /* floats between rows of scratch memory, enough to read past the end of a row */
} Job;

#define SCRATCH_ROWS (7 + WINDOW * MOMENTS) /* per thread */

/* What one thread works in. */
typedef struct {
    float *x, *y, *mask, *moments[MOMENTS], *ring;
} Scratch;

static Scratch scratch_of(const Job *job, int rank) {
    float *at = (float *)job->work->buffers[ROWS].data + (size_t)rank * SCRATCH_ROWS * job->stride;
    Scratch scratch = {at, at + job->stride, at + 2 * job->stride};
    for (int m = 0; m < MOMENTS; m++) scratch.moments[m] = at + (3 + m) * job->stride;
    scratch.ring = at + 7 * job->stride;
    return scratch;
}

static float *slopes_of(const Job *job, int row) {
    return (float *)job->work->buffers[SLOPES].data + (size_t)row * SLOPES_KEPT * job->stride;
}

/* One number per value of row y: 1 where it counts. */
static void load_mask(const Job *job, int y, float *mask) {
    const PhotometricLoss *loss = job->loss;
    const uint8_t *from = loss->mask + (size_t)y * loss->width;
    for (int i = 0; i < loss->width; i++)
        for (int k = 0; k < loss->channels; k++) *mask++ = from[i] ? 1.0f : 0.0f;
}

/* Row y of both images, zero where the mask is. */
static void load_images(const Job *job, int y, Scratch *scratch) {
    const size_t size = (size_t)job->row * sizeof(float);
    memcpy(scratch->x, job->loss->prediction + (size_t)y * job->row, size);
    memcpy(scratch->y, job->loss->target + (size_t)y * job->row, size);
    if (!job->loss->mask) return;
    load_mask(job, y, scratch->mask);
    for (int i = 0; i < job->row; i += LANES) {
        vint counts = *(vfloat *)(scratch->mask + i) > 0;
        *(vfloat *)(scratch->x + i) = keep(counts, *(vfloat *)(scratch->x + i));
        *(vfloat *)(scratch->y + i) = keep(counts, *(vfloat *)(scratch->y + i));
    }
}

/* Blurs the moments of row y of the images along x into the ring. */
static void load_ring(const Job *job, int y, Scratch *scratch) {
    const int step = job->loss->channels;
    load_images(job, y, scratch);
    for (int i = 0; i < job->row; i += LANES) {
        vfloat a = *(vfloat *)(scratch->x + i), b = *(vfloat *)(scratch->y + i);
        *(vfloat *)(scratch->moments[2] + i) = a * a + b * b;
        *(vfloat *)(scratch->moments[3] + i) = a * b;
    }
    const float *from[MOMENTS] = {scratch->x, scratch->y, scratch->moments[2], scratch->moments[3]};
    float *to = scratch->ring + (size_t)(y % WINDOW) * MOMENTS * job->stride;
    for (int m = 0; m < MOMENTS; m++, to += job->stride)
        for (int i = 0; i < job->map_row; i += LANES) {
            vfloat sum = all_lanes(0);
            for (int k = 0; k < WINDOW; k++)
                sum += *(const vfloat_unaligned *)(from[m] + i + k * step) * job->window[k];
            *(vfloat *)(to + i) = sum;
        }
}

/* Row y of the map, whose window covers rows y .. y + WINDOW - 1 of the images: its sum, and its slopes. */
static float similarity_row(const Job *job, int y, Scratch *scratch) {
    const float weight = -job->loss->similarity_weight, *rows[WINDOW];
    const int center = WINDOW / 2 * job->loss->channels;
    vfloat sum = all_lanes(0);
    float *slopes = slopes_of(job, y);
    for (int k = 0; k < WINDOW; k++) rows[k] = scratch->ring + (size_t)((y + k) % WINDOW) * MOMENTS * job->stride;
    if (job->loss->mask) load_mask(job, y + WINDOW / 2, scratch->mask);
    for (int i = 0; i < job->map_row; i += LANES) {
        vfloat v[MOMENTS] = {{0}};
        for (int k = 0; k < WINDOW; k++)
            for (int m = 0; m < MOMENTS; m++)
                v[m] += *(const vfloat *)(rows[k] + (size_t)m * job->stride + i) * job->window[k];
        vfloat a = v[0], b = v[1], product = a * b, squares = a * a + b * b;
        vfloat luminance = 2 * product + C1, contrast = 2 * (v[3] - product) + C2;
        vfloat level = squares + C1, spread = v[2] - squares + C2;
        vfloat inverse = 1 / (level * spread), similarity = luminance * contrast * inverse;
        vint counts = IOTA_INT + i < job->map_row;
        if (job->loss->mask) counts &= *(const vfloat_unaligned *)(scratch->mask + center + i) > 0;
        sum += keep(counts, similarity);
        if (!job->loss->gradient) continue;
        vfloat slope = similarity * level * inverse; /* similarity / spread */
        vfloat mean = 2 * inverse * (b * (contrast - luminance) + a * similarity * (level - spread));
        *(vfloat *)(slopes + i) = keep(counts, mean) * weight;
        *(vfloat *)(slopes + job->stride + i) = keep(counts, slope) * -2.0f * weight;
        *(vfloat *)(slopes + 2 * job->stride + i) = keep(counts, luminance * inverse) * 2.0f * weight;
    }
    float lanes[LANES], total = 0;
    memcpy(lanes, &sum, sizeof lanes);
    for (int lane = 0; lane < LANES; lane++) total += lanes[lane];
    return total;
}

/* The slopes around row y of the images, gathered along y, in `moments`, with room for the window at both ends. */
static void gather_slopes(const Job *job, int y, Scratch *scratch) {
    const int room = (WINDOW - 1) * job->loss->channels;
    const int first = y < WINDOW ? 0 : y - WINDOW + 1, last = y < job->map_height ? y : job->map_height - 1;
    for (int m = 0; m < SLOPES_KEPT; m++) {
        float *to = scratch->moments[m];
        memset(to, 0, (size_t)room * sizeof(float));
        for (int i = 0; i < job->map_row; i += LANES) {
            vfloat sum = all_lanes(0);
            for (int from = first; from <= last; from++)
                sum += *(const vfloat *)(slopes_of(job, from) + (size_t)m * job->stride + i) * job->window[y - from];
            *(vfloat_unaligned *)(to + room + i) = sum;
        }
        memset(to + room + job->map_row, 0, (size_t)(room + LANES) * sizeof(float));
    }
}

/* Row y of the gradient, and the sum of the absolute differences of that row. */
static float gradient_row(const Job *job, int y, Scratch *scratch) {
    const PhotometricLoss *loss = job->loss;
    const int similar = job->map_height > 0 && loss->similarity_weight != 0;
    const float weight = loss->absolute_weight;
    vfloat sum = all_lanes(0);
    load_images(job, y, scratch);
    if (loss->gradient && similar) gather_slopes(job, y, scratch);
    for (int i = 0; i < job->row; i += LANES) {
        vfloat a = *(vfloat *)(scratch->x + i), b = *(vfloat *)(scratch->y + i), difference = a - b;
        vint counts = IOTA_INT + i < job->row;
        sum += keep(counts, vabs(difference));
        if (!loss->gradient) continue;
        vfloat grad = keep(difference > 0, all_lanes(weight)) - keep(difference < 0, all_lanes(weight));
        if (similar) {
            vfloat v[SLOPES_KEPT] = {{0}};
            for (int m = 0; m < SLOPES_KEPT; m++)
                for (int k = 0; k < WINDOW; k++)
                    v[m] += *(const vfloat_unaligned *)(scratch->moments[m] + i + k * loss->channels) * job->window[k];
            grad += v[0] + a * v[1] + b * v[2];
        }
        if (loss->mask) grad = keep(*(vfloat *)(scratch->mask + i) > 0, grad);
        float *to = loss->gradient + (size_t)y * job->row + i;
        if (i + LANES <= job->row) *(vfloat_unaligned *)to = grad;
        else memcpy(to, &grad, (size_t)(job->row - i) * sizeof(float));
    }
    float lanes[LANES], total = 0;
    memcpy(lanes, &sum, sizeof lanes);
    for (int lane = 0; lane < LANES; lane++) total += lanes[lane];
    return total;
}

static void photometric(void *argument, Team *team, int rank) {
    Job *job = argument;
    const PhotometricLoss *loss = job->loss;
    if (rank == 0) {
        int kept = loss->gradient ? job->map_height : 0;
        reserve(job->work, SLOPES, (size_t)kept * SLOPES_KEPT * job->stride * sizeof(float));
        reserve(job->work, ROWS, (size_t)team->size * SCRATCH_ROWS * job->stride * sizeof(float));
        reserve(job->work, ROW_SUMS, (size_t)loss->height * 2 * sizeof(float));
    }
    team_barrier(team);
    if (job->work->failed) return;
    Scratch scratch = scratch_of(job, rank);
    float *sums = job->work->buffers[ROW_SUMS].data;
    memset(scratch.x, 0, (size_t)SCRATCH_ROWS * job->stride * sizeof(float));
    int from = (int)share(team, rank, job->map_height), to = (int)share(team, rank + 1, job->map_height);
    for (int y = from; y < to; y++) {
        for (int row = y == from ? y : y + WINDOW - 1; row < y + WINDOW; row++) load_ring(job, row, &scratch);
        sums[2 * y + 1] = similarity_row(job, y, &scratch);
    }
    team_barrier(team);
    from = (int)share(team, rank, loss->height), to = (int)share(team, rank + 1, loss->height);
    for (int y = from; y < to; y++) sums[2 * y] = gradient_row(job, y, &scratch);
}

int qsplat_photometric_loss(void *workspace, const PhotometricLoss *loss) {
    Workspace *work = workspace;
    Job job = {.loss = loss, .work = work, .row = loss->width * loss->channels};
    double weights[WINDOW], all = 0, absolute = 0, similarity = 0;
    if (loss->similarity_weight != 0 && loss->width >= WINDOW && loss->height >= WINDOW) {
        job.map_height = loss->height - WINDOW + 1;
        job.map_row = job.row - (WINDOW - 1) * loss->channels;
    }
    job.stride = (job.row + (WINDOW - 1) * loss->channels + 3 * LANES - 1) / LANES * LANES;
    for (int k = 0; k < WINDOW; k++) {
        double distance = (k - WINDOW / 2) / 1.5;
        all += weights[k] = exp(-0.5 * distance * distance);
    }
    for (int k = 0; k < WINDOW; k++) job.window[k] = (float)(weights[k] / all);
    work->failed = 0;
    team_run(loss->threads, photometric, &job);
    if (work->failed) return 1;
    const float *sums = work->buffers[ROW_SUMS].data;
    for (int y = 0; y < loss->height; y++) absolute += sums[2 * y];
    for (int y = 0; y < job.map_height; y++) similarity += sums[2 * y + 1];
    loss->sums[0] = absolute;
    loss->sums[1] = similarity;
    return 0;
}

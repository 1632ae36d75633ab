/* Gradients of the splats of a tile. The forward pass is replayed, nearest splat first: what is still behind a splat is
 * the final image minus what was blended so far. */
#include "raster.h"

/* Gradients that flow into a tile: of the channels, of alpha, and their product with the image, which is what lies
 * behind the first splat. `scratch` has a plane per channel. The gradient of the depth sum comes after the channels; it
 * acts on how much further than the expected depth a splat is, so that nothing of it lies behind the first splat, and
 * nothing cancels. */
static void open_gradients(const Tile *tile, vfloat *behind, vfloat *grad_alpha, vfloat *depth, vfloat *grads,
                           vfloat *scratch) {
    const RasterImage *image = tile->job->image;
    load_planes(tile, grad_alpha, image->grad_alpha, 1);
    load_planes(tile, behind, image->alpha, 1);
    if (image->grad_depth) {
        vfloat *grad = grads + image->channels * PLANE;
        load_planes(tile, depth, image->depth, 1);
        load_planes(tile, grad, image->grad_depth, 1);
        for (int block = 0; block < BLOCKS; block++) {
            vint covered = behind[block] > 1e-10f; /* elsewhere the divisor is a constant */
            grad[block] /= vmax(behind[block], all_lanes(1e-10f));
            depth[block] = keep(covered, depth[block]);
        }
    }
    load_planes(tile, grads, image->grad_color, image->channels);
    load_planes(tile, scratch, image->color, image->channels);
    for (int block = 0; block < BLOCKS; block++) behind[block] *= grad_alpha[block];
    for (int k = 0; k < image->channels; k++)
        for (int block = 0; block < BLOCKS; block++)
            behind[block] += grads[k * PLANE + block] * scratch[k * PLANE + block];
}

/* Where the sums of each splat of a batch go in this tile. They are found and fetched before the first is needed:
 * splats that follow each other in depth are far apart in memory, and so the waits for them overlap. */
static void find_slots(const Job *job, int tile, const uint32_t *batch, int count, float **slots) {
    const Area *areas = DATA(AREAS);
    const uint32_t *begins = DATA(SLOTS_BEGIN);
    const int column = tile % job->tiles_x, row = tile / job->tiles_x;
    for (int i = 0; i < count; i++) {
        const Area area = areas[batch[i]];
        const int x = column - area.x, y = row - area.y;
        const uint32_t slot = begins[batch[i]] + (uint32_t)(y * area.width + x);
        slots[i] = (float *)DATA(SLOTS) + (size_t)slot * job->slot;
        __builtin_prefetch(slots[i], 1);
    }
}

INLINE void replay(Tile *tile, vfloat *behind, const vfloat *grad_alpha, const vfloat *depth, const vfloat *grads,
                   const int channels, const int deep, const int absolute) {
    const Job *job = tile->job;
    const uint32_t *lists = DATA(LISTS), *starts = DATA(STARTS), end = starts[tile->index + 1];
    const uint32_t done = ((const uint32_t *)DATA(DONE))[tile->index];
    const float cut = job->cut, alpha_max = job->image->alpha_max, stop = job->image->transmittance_stop;
    const int sums_used = SLOT + channels + deep, vectors = sums_used > LANES ? sums_used : LANES;
    const vsum nothing = {0};
    vsum sums[vectors];
    float *slots[BATCH];
    for (uint32_t i = starts[tile->index]; i < done; i += BATCH) {
        int count = (int)(end - i < BATCH ? end - i : BATCH), at = 0;
        find_open_blocks(tile);
        list_blocks(tile, lists + i, count);
        find_slots(job, tile->index, lists + i, count, slots);
        for (int j = 0; j < count; j++) {
            const Packed *splat = tile->splats[j];
            const float conic_a = splat->aa * (2 / LOG2E), conic_b = splat->bb / LOG2E;
            const float conic_c = splat->cc * (2 / LOG2E);
            float *out = slots[j];
            for (int k = 0; k < vectors; k++) sums[k] = nothing;
            for (; at < tile->ends[j]; at++) {
                unsigned block = tile->entries[at] % 256u;
                Blend one = blend(tile, splat, block, cut, alpha_max, stop);
                vfloat value = grad_alpha[block];
                for (int k = 0; k < channels; k++) {
                    vfloat grad = grads[k * PLANE + block];
                    value += grad * splat->channels[k];
                    sums[SLOT + k] = add_product(sums[SLOT + k], one.weight, grad);
                }
                if (deep) {
                    vfloat grad = grads[channels * PLANE + block];
                    value += grad * (splat->channels[channels] - depth[block]);
                    sums[SLOT + channels] = add_product(sums[SLOT + channels], one.weight, grad);
                }
                vfloat own = one.weight * value, rest = behind[block] - own;
                behind[block] = rest;
                vfloat g = keep(one.raw <= alpha_max, own - rest * one.alpha / (1.0f - one.alpha));
                vfloat gx = g * one.dx, gy = g * one.dy;
                sums[0] = add(sums[0], g);
                sums[1] = add(sums[1], gx);
                sums[2] = add(sums[2], gy);
                sums[3] = add_product(sums[3], gx, one.dx);
                sums[4] = add_product(sums[4], gx, one.dy);
                sums[5] = add_product(sums[5], gy, one.dy);
                if (absolute) {
                    sums[6] = add(sums[6], vabs(gx * conic_a + gy * conic_b));
                    sums[7] = add(sums[7], vabs(gx * conic_b + gy * conic_c));
                }
            }
            *(vfloat *)out = total_each(sums);
            for (int k = LANES; k < job->slot; k += LANES) {
                vsum more[LANES];
                for (int lane = 0; lane < LANES; lane++) {
                    more[lane] = nothing;
                    if (k + lane < sums_used) more[lane] = sums[k + lane];
                }
                *(vfloat *)(out + k) = total_each(more);
            }
        }
    }
    for (uint32_t i = done; i < end; i += BATCH) {
        int count = (int)(end - i < BATCH ? end - i : BATCH);
        find_slots(job, tile->index, lists + i, count, slots);
        for (int j = 0; j < count; j++) memset(slots[j], 0, (size_t)job->slot * sizeof(float));
    }
}

void backward_tile(const Job *job, Tile *tile, int index, int rank) {
    const int channels = job->image->channels, deep = job->image->grad_depth != NULL;
    vfloat *light = planes_of(job, rank), *behind = light + PLANE, *grad_alpha = behind + PLANE;
    vfloat *depth = grad_alpha + PLANE, *grads = depth + PLANE, *scratch = grads + (size_t)(channels + 1) * PLANE;
    open_tile(job, index, tile, light);
    open_gradients(tile, behind, grad_alpha, depth, grads, scratch);
#define REPLAY(channels, deep, absolute) replay(tile, behind, grad_alpha, depth, grads, channels, deep, absolute)
    switch (4 * channels + 2 * deep + (job->image->absgrad != NULL)) {
        case 4 * 1: REPLAY(1, 0, 0); break;
        case 4 * 3: REPLAY(3, 0, 0); break;
        case 4 * 3 + 1: REPLAY(3, 0, 1); break;
        case 4 * 3 + 2: REPLAY(3, 1, 0); break;
        case 4 * 3 + 3: REPLAY(3, 1, 1); break;
        case 4 * 4: REPLAY(4, 0, 0); break;
        default: REPLAY(channels, deep, job->image->absgrad != NULL);
    }
#undef REPLAY
}

void gather(const Job *job, Team *team, int rank) {
    const RasterImage *image = job->image;
    const uint32_t *slots_begin = DATA(SLOTS_BEGIN);
    const Area *areas = DATA(AREAS);
    const int width = RECORD + image->channels;
    const int sums_used = SLOT + image->channels + (image->grad_depth != NULL);
    float sums[sums_used];
    for (int64_t i = share(team, rank, image->count); i < share(team, rank + 1, image->count); i++) {
        const float *record = image->records + i * width;
        const float *from = (const float *)DATA(SLOTS) + (size_t)slots_begin[i] * job->slot;
        float *grad = image->grad_records + i * width, *grad_mean = image->grad_means2d + 2 * i;
        int slots = areas[i].width * areas[i].height;
        memset(sums, 0, sizeof sums);
        for (int slot = 0; slot < slots; slot++, from += job->slot)
            for (int k = 0; k < sums_used; k++) sums[k] += from[k];
        grad_mean[0] = record[0] * sums[1] + record[1] * sums[2];
        grad_mean[1] = record[1] * sums[1] + record[2] * sums[2];
        grad[0] = -0.5f * sums[3];
        grad[1] = -sums[4];
        grad[2] = -0.5f * sums[5];
        grad[3] = slots ? sums[0] / record[3] : 0;
        grad[4] = image->grad_depth ? sums[SLOT + image->channels] : 0;
        for (int k = 0; k < image->channels; k++) grad[RECORD + k] = sums[SLOT + k];
        if (image->absgrad) image->absgrad[2 * i] = sums[6], image->absgrad[2 * i + 1] = sums[7];
    }
}

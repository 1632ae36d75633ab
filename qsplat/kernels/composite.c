/* Splats of a tile to its pixels. */
#include "raster.h"

/* Composites the splats of a tile; returns the first that nothing was left for. */
INLINE uint32_t composite(Tile *tile, vfloat *color, const int channels) {
    const Job *job = tile->job;
    const uint32_t *lists = DATA(LISTS), *starts = DATA(STARTS), end = starts[tile->index + 1];
    const float cut = job->cut, alpha_max = job->image->alpha_max, stop = job->image->transmittance_stop;
    for (uint32_t i = starts[tile->index]; i < end; i += BATCH) {
        if (!find_open_blocks(tile)) return i;
        int count = (int)(end - i < BATCH ? end - i : BATCH);
        list_blocks(tile, lists + i, count);
        for (int at = 0, all = tile->ends[count - 1]; at < all; at++) {
            unsigned block = tile->entries[at] % 256u;
            const Packed *splat = tile->splats[tile->entries[at] / 256u];
            Blend one = blend(tile, splat, block, cut, alpha_max, stop);
            for (int k = 0; k < channels; k++) color[k * PLANE + block] += one.weight * splat->channels[k];
        }
    }
    return end;
}

void forward_tile(const Job *job, Tile *tile, int index, int rank) {
    const RasterImage *image = job->image;
    vfloat *light = planes_of(job, rank), *color = light + PLANE;
    uint32_t done;
    open_tile(job, index, tile, light);
    memset(color, 0, PLANE * sizeof(vfloat) * (size_t)job->channels);
    switch (job->channels) {
        case 1: done = composite(tile, color, 1); break;
        case 3: done = composite(tile, color, 3); break;
        case 4: done = composite(tile, color, 4); break;
        default: done = composite(tile, color, job->channels);
    }
    ((uint32_t *)DATA(DONE))[index] = done;
    for (int block = 0; block < BLOCKS; block++) light[block] = 1.0f - vabs(light[block]);
    store_planes(tile, color, image->color, image->channels);
    store_planes(tile, light, image->alpha, 1);
    if (image->depth) {
        vfloat *depth = color + image->channels * PLANE;
        for (int block = 0; block < BLOCKS; block++) depth[block] /= vmax(light[block], all_lanes(1e-10f));
        store_planes(tile, depth, image->depth, 1);
    }
}

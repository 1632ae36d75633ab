/* A tile: which of its blocks are still open, and which of them a splat touches. */
#include "raster.h"

#define PREFETCH 8 /* splats ahead */

int find_open_blocks(Tile *tile) {
    float open[BLOCKS] __attribute__((aligned(64)));
    int left = 0;
    for (int block = 0; block < BLOCKS; block += LANES) {
        vfloat ones[LANES];
        for (int i = 0; i < LANES; i++) ones[i] = keep(tile->light[block + i] > 0, all_lanes(1));
        *(vfloat *)(open + block) = sum_each(ones);
    }
    tile->first = tile->last = all_lanes(0);
    for (int row = 0; row < DOWN; row++) {
        const float *blocks = open + row * ACROSS;
        int first = 0, last = ACROSS;
        while (first < last && blocks[first] == 0) first++;
        while (first < last && blocks[last - 1] == 0) last--;
        tile->first[row] = (float)first;
        tile->last[row] = (float)last;
        left |= first < last;
    }
    return left;
}

void open_tile(const Job *job, int index, Tile *tile, vfloat *light) {
    const RasterImage *image = job->image;
    const vint column = IOTA_INT & (BLOCK - 1), row = IOTA_INT >> 2;
    tile->job = job, tile->index = index, tile->light = light;
    tile->x = (index % job->tiles_x + job->tile_x) * TILE_WIDTH;
    tile->y = (index / job->tiles_x + job->tile_y) * TILE_HEIGHT;
    for (int i = 0; i < ACROSS; i++)
        tile->center_x[i] = __builtin_convertvector(column + (tile->x + i * BLOCK), vfloat) + 0.5f;
    for (int i = 0; i < DOWN; i++)
        tile->center_y[i] = __builtin_convertvector(row + (tile->y + i * BLOCK), vfloat) + 0.5f;
    tile->row_y = __builtin_convertvector(IOTA_INT * BLOCK + tile->y, vfloat) + 0.5f;
    for (int block = 0; block < BLOCKS; block++) {
        vint x = column + (tile->x + block % ACROSS * BLOCK - image->x);
        vint y = row + (tile->y + block / ACROSS * BLOCK - image->y);
        vint inside = (x >= 0) & (x < image->width) & (y >= 0) & (y < image->height);
        light[block] = choose(inside, all_lanes(1), all_lanes(-1));
    }
}

void list_blocks(Tile *tile, const uint32_t *batch, int count) {
    const Job *job = tile->job;
    const float *packs = DATA(PACKS);
    const vushort iota = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    uint16_t *at = tile->entries;
    for (int i = 0; i < count; i++) {
        const Packed *splat = (const Packed *)(packs + (size_t)batch[i] * job->stride);
        __builtin_prefetch(packs + (size_t)batch[i + PREFETCH < count ? i + PREFETCH : i] * job->stride);
        vfloat above = tile->row_y - splat->y, below = above + (float)(BLOCK - 1);
        vfloat right = vmin(vmax(all_lanes(splat->turn), above), below);
        vfloat left = vmin(vmax(all_lanes(-splat->turn), above), below);
        vint crossed = (above <= splat->reach) & (below >= -splat->reach);
        right = right * splat->lean + vsqrt(vmax(splat->width2 - right * right * splat->narrow, all_lanes(0)));
        left = left * splat->lean - vsqrt(vmax(splat->width2 - left * left * splat->narrow, all_lanes(0)));
        /* Block i holds the centres 4 i + 0.5 to 4 i + 3.5 of the tile; 0.02 pixels are for rounding. */
        float x = splat->x - (float)tile->x;
        vfloat first = vmax((left + (x - 3.52f)) * 0.25f + 1, tile->first);
        vfloat last = vmin((right + (x - 0.48f)) * 0.25f + 1, tile->last);
        vint begin = __builtin_convertvector(vmin(first, all_lanes(ACROSS)), vint);
        vint number = __builtin_convertvector(vmax(last, all_lanes(0)), vint) - begin;
        number &= crossed & (number > 0);
        begin += IOTA_INT * ACROSS + i * 256;
        int32_t begins[LANES], numbers[LANES];
        memcpy(begins, &begin, sizeof begins);
        memcpy(numbers, &number, sizeof numbers);
        for (int row = 0; row < DOWN; row++) {
            vushort ids = iota + (uint16_t)begins[row];
            memcpy(at, &ids, sizeof ids);
            at += numbers[row];
        }
        tile->splats[i] = splat;
        tile->ends[i] = (int)(at - tile->entries);
    }
}

/* What the parts of the rasterizer share: a tile on its way through its splats, and what one splat does
 * to one block of pixels. */
#ifndef QSPLAT_RASTER_H
#define QSPLAT_RASTER_H

#include "kernels.h"
#include "parallel.h"
#include "vector.h"
#include "workspace.h"

#define BLOCK 4
#define ACROSS 16 /* blocks per tile, at most 16: the ids of a block row are stored as one vector */
#define DOWN 8    /* at most 16: the block rows of a tile are solved as one vector */
#define BLOCKS (ACROSS * DOWN)
#define PLANE (BLOCKS + 5) /* a power of two would put the same block of all planes into one set of the cache */
#define TILE_WIDTH (ACROSS * BLOCK)
#define TILE_HEIGHT (DOWN * BLOCK)
#define BATCH 128 /* at most 256: an entry is 256 * splat + block */
#define SLOT 8    /* sums of a slot before the channels: 6 moments, 2 absolute gradients */
#define PACKED 11 /* floats of a packed splat before the channels */
#define LOG2E 1.4426950408889634f

/* A splat ready for the inner loops: log2(alpha) = peak - (aa dx^2 + bb dx dy + cc dy^2). Its edge at height dy is
 * lean dy +- sqrt(width2 - narrow dy^2); the rightmost point is at height `turn`, the lowest at `reach`. */
typedef struct {
    float x, y, aa, bb, cc, peak, lean, width2, narrow, turn, reach;
    float channels[];
} Packed;

typedef struct {
    int16_t x, y, width, height; /* tiles; width 0: the splat does not reach the window */
} Area;

typedef struct {
    const RasterImage *image;
    Workspace *work;
    int channels, stride, slot;           /* with depth; floats of a packed splat, of a slot */
    int tile_x, tile_y, tiles_x, tiles_y; /* the tile grid is that of the whole image */
    float cut;                            /* log2(alpha_cut) */
    int64_t counts[MAX_THREADS], pairs[MAX_THREADS];
    _Atomic int64_t next;
} Job;

#define DATA(which) (job->work->buffers[which].data)

/* binning.c: the splats of each tile, nearest first. Called by the whole team. */
void bin(Job *job, Team *team, int rank);

/* A tile on its way through its splats. The planes hold one vector per block. */
typedef struct {
    const Job *job;
    int x, y, index;
    vfloat center_x[ACROSS], center_y[DOWN]; /* of the pixels of a block column, a block row */
    vfloat row_y;                            /* height of the first pixel centres of each block row */
    vfloat first, last;                      /* open blocks of each row: first <= i < last */
    vfloat *light;                           /* transmittance; negative where nothing is blended any more */
    uint16_t entries[BATCH * BLOCKS + LANES];
    int ends[BATCH]; /* of the entries of each splat */
    const Packed *splats[BATCH];
} Tile;

/* tile.c */
void open_tile(const Job *job, int index, Tile *tile, vfloat *light);
/* Finds the ends of the block rows in which something can still be blended; 0 when there is nothing left. */
int find_open_blocks(Tile *tile);
/* Lists the blocks (row * ACROSS + column) that each splat of a batch may touch. */
void list_blocks(Tile *tile, const uint32_t *batch, int count);

/* planes.c */
size_t planes_per_thread(const Job *job);
vfloat *planes_of(const Job *job, int rank);
/* Writes planes to an interleaved image of that many channels. */
void store_planes(const Tile *tile, const vfloat *planes, float *image, int channels);
/* Reads planes from an interleaved image; zeros outside the window and where there is no image. */
void load_planes(const Tile *tile, vfloat *planes, const float *image, int channels);

/* composite.c and replay.c */
void forward_tile(const Job *job, Tile *tile, int index, int rank);
void backward_tile(const Job *job, Tile *tile, int index, int rank);
/* Gradients of each splat from the sums of its slots, in slot order. Called by the whole team. */
void gather(const Job *job, Team *team, int rank);

/* What one splat does to one block: alpha as it is without limits, and alpha and weight, which are 0 where it is not
 * blended. No mask is part of it: with AVX2, one that is used here and elsewhere is packed and unpacked in between. */
typedef struct {
    vfloat dx, dy, raw, alpha, weight;
} Blend;

INLINE Blend blend(const Tile *tile, const Packed *splat, unsigned block, float cut, float alpha_max, float stop) {
    Blend result;
    result.dx = tile->center_x[block % ACROSS] - splat->x;
    result.dy = tile->center_y[block / ACROSS] - splat->y;
    vfloat across = result.dx * splat->aa + result.dy * splat->bb;
    vfloat q = (splat->peak - result.dy * result.dy * splat->cc) - result.dx * across;
    vint drawn = q >= cut;
    result.raw = vexp2(q);
    vfloat alpha = vmin(result.raw, all_lanes(alpha_max));
    vfloat before = tile->light[block], weight = before * alpha, after = before - weight;
    vint blended = drawn & (after > stop);
    vfloat stopped = (vfloat)((vint)before | (drawn & INT32_MIN));
    tile->light[block] = choose(blended, after, stopped);
    result.alpha = keep(blended, alpha);
    result.weight = keep(blended, weight);
    return result;
}

#endif

/* Depth sort, binning and compositing of 2D Gaussians, forward and backward. The equation is in ../contract.py.
 *
 * Splats are sorted by depth once; a stable counting sort then lists them per tile. A tile is made of blocks of 4x4
 * pixels, one vector each. Splats of a tile are taken in batches: first the blocks that the ellipse alpha = alpha_cut
 * touches are listed (all block rows of a splat at once), then one flat loop composites them. Blocks at the ends of a
 * row in which nothing can be blended any more are left out.
 *
 * The backward pass replays the forward one, nearest splat first: what is still behind a splat is the final image
 * minus what was blended so far. Each (splat, tile) pair writes its sums to a slot of its own, in splat order, and the
 * slots are added up afterwards, so that results do not depend on the number of threads. */
#include "kernels.h"

#include <stdlib.h>

#include "parallel.h"
#include "vector.h"

#define BLOCK 4
#define ACROSS 16 /* blocks per tile, at most 16: the ids of a block row are stored as one vector */
#define DOWN 8    /* at most 16: the block rows of a tile are solved as one vector */
#define BLOCKS (ACROSS * DOWN)
#define PLANE (BLOCKS + 5) /* a power of two would put the same block of all planes into one set of the cache */
#define TILE_WIDTH (ACROSS * BLOCK)
#define TILE_HEIGHT (DOWN * BLOCK)
#define BATCH 128  /* at most 256: an entry is 256 * splat + block */
#define RECORD 5   /* floats of an input record before the channels */
#define SLOT 8     /* sums of a slot before the channels: 6 moments, 2 absolute gradients */
#define PACKED 12  /* floats of a packed splat before the channels */
#define PREFETCH 8 /* splats ahead */
#define DIGIT_BITS 11
#define DIGITS (1 << DIGIT_BITS)
#define LOG2E 1.4426950408889634f

/* A splat ready for the inner loops: log2(alpha) = peak - (aa dx^2 + bb dx dy + cc dy^2). Its edge at height dy is
 * lean dy +- sqrt(width2 - narrow dy^2); the rightmost point is at height `turn`, the lowest at `reach`. */
typedef struct {
    float x, y, aa, bb, cc, peak, lean, width2, narrow, turn, reach, unused;
    float channels[];
} Packed;

typedef struct {
    int16_t x, y, width, height; /* tiles; width 0: the splat does not reach the window */
} Area;

typedef struct {
    void *data;
    size_t size;
} Buffer;

enum { KEYS, KEYS_B, ORDER, ORDER_B, COUNTS, PACKS, AREAS, SLOTS_BEGIN, TILES, STARTS, LISTS, DONE, SLOTS, PLANES, BUFFERS };

typedef struct {
    Buffer buffers[BUFFERS];
    int64_t seen; /* splats that reach the window */
    uint32_t pairs; /* (splat, tile) */
    int failed;
} Workspace;

typedef struct {
    const RasterImage *image;
    Workspace *work;
    int channels, stride, slot;           /* with depth; floats of a packed splat, of a slot */
    int tile_x, tile_y, tiles_x, tiles_y; /* the tile grid is that of the whole image */
    float cut;                            /* log2(alpha_cut) */
    int64_t counts[MAX_THREADS], pairs[MAX_THREADS];
    _Atomic int64_t next;
} Job;

void *qsplat_workspace_create(void) {
    return calloc(1, sizeof(Workspace));
}

void qsplat_workspace_destroy(void *workspace) {
    Workspace *work = workspace;
    for (int i = 0; i < BUFFERS; i++) free(work->buffers[i].data);
    free(work);
}

static void *reserve(Workspace *work, int which, size_t size) {
    Buffer *buffer = &work->buffers[which];
    if (buffer->size < size || !buffer->data) {
        free(buffer->data);
        buffer->size = size + size / 4 + 4096;
        if (posix_memalign(&buffer->data, 64, buffer->size)) {
            buffer->data = NULL;
            buffer->size = 0;
            work->failed = 1;
        }
    }
    return buffer->data;
}

#define DATA(which) (job->work->buffers[which].data)

static int64_t total(const int64_t *counts, int size) {
    int64_t sum = 0;
    for (int i = 0; i < size; i++) sum += counts[i];
    return sum;
}

/* First and last tile, relative to the window's first, of the pixel centres in [center - reach, center + reach]; the
 * last is before the first where there are none. */
INLINE void tile_range(vfloat center, vfloat reach, int start, int size, int shift, vint *first, vint *last) {
    vfloat low = center - reach - 0.5f, high = center + reach - 0.5f, end = all_lanes((float)(start + size - 1));
    vint none = ~((high >= (float)start) & (low <= end)); /* also where they are NaN */
    low = vmin(vmax(low, all_lanes((float)start)), end);
    high = vmin(vmax(high, all_lanes((float)start)), end);
    vint pixel = __builtin_convertvector(low, vint);
    pixel -= __builtin_convertvector(pixel, vfloat) < low; /* ceil: a mask is -1 */
    vint to = __builtin_convertvector(high, vint);
    none |= to < pixel;
    *first = (pixel >> shift) - (start >> shift);
    *last = (none & -1) | (~none & ((to >> shift) - (start >> shift)));
}

/* Packs sixteen splats and finds the tiles that each reaches. */
static void pack(const Job *job, int64_t first, int lanes, Area *areas) {
    const RasterImage *image = job->image;
    const int width = RECORD + image->channels;
    float rows[LANES][LANES] __attribute__((aligned(64))) = {{0}};
    for (int i = 0; i < lanes; i++) {
        memcpy(rows[i], image->records + (first + i) * width, RECORD * sizeof(float));
        memcpy(rows[i] + RECORD, image->means2d + 2 * (first + i), 2 * sizeof(float));
        rows[i][7] = log2f(rows[i][3]);
    }
    vfloat *v = (vfloat *)rows;
    transpose(v);
    vfloat a = v[0], b = v[1], c = v[2], x = v[5], y = v[6], peak = v[7];
    vfloat square = b * b, det = vfma(a, c, -square) + vfma(-b, b, square); /* a c - b^2 without cancellation */
    vfloat level = (peak - job->cut) * (2 / LOG2E);
    vfloat across = vsqrt(level * c / det) + 0.01f, down = vsqrt(level * a / det) + 0.01f, lean = -b / a;
    vint seen = (level >= 0) & (det > 0) & (a > 0) & (c > 0);
    for (int i = 0; i < lanes; i++) seen[i] &= image->radii[first + i] > 0 ? -1 : 0;
    vint left, right, top, bottom;
    tile_range(x, across, image->x, image->width, __builtin_ctz(TILE_WIDTH), &left, &right);
    tile_range(y, down, image->y, image->height, __builtin_ctz(TILE_HEIGHT), &top, &bottom);
    seen &= (right >= left) & (bottom >= top);
    vint columns = seen & (right - left + 1), lines = seen & (bottom - top + 1);
    vfloat out[LANES] = {x, y, a * (0.5f * LOG2E), b * LOG2E, c * (0.5f * LOG2E), peak, lean, level / a, det / (a * a),
                         -b / c * across, down, all_lanes(0), (vfloat)left, (vfloat)top, (vfloat)columns, (vfloat)lines};
    transpose(out);
    for (int i = 0; i < lanes; i++) {
        const int32_t *tiles = (const int32_t *)&out[i] + PACKED;
        areas[i] = (Area){(int16_t)tiles[0], (int16_t)tiles[1], (int16_t)tiles[2], (int16_t)tiles[3]};
        if (!areas[i].width) continue;
        const float *record = image->records + (first + i) * width;
        Packed *to = (Packed *)((float *)DATA(PACKS) + (first + i) * job->stride);
        memcpy(to, &out[i], PACKED * sizeof(float));
        for (int k = 0; k < image->channels; k++) to->channels[k] = record[RECORD + k];
        if (image->depth) to->channels[image->channels] = record[4];
    }
}

/* Packs all splats; depth keys and indices of those that reach the window, in index order; where their slots begin. */
static void collect(Job *job, Team *team, int rank) {
    const RasterImage *image = job->image;
    int64_t groups = (image->count + LANES - 1) / LANES, found = 0, pairs = 0;
    int64_t begin = share(team, rank, groups) * LANES, end = share(team, rank + 1, groups) * LANES;
    if (end > image->count) end = image->count;
    uint32_t *keys = (uint32_t *)DATA(KEYS_B) + begin, *order = (uint32_t *)DATA(ORDER_B) + begin;
    uint32_t *slots = DATA(SLOTS_BEGIN);
    Area *areas = DATA(AREAS);
    for (int64_t first = begin; first < end; first += LANES) {
        int lanes = (int)(end - first < LANES ? end - first : LANES);
        pack(job, first, lanes, areas + first);
        for (int64_t i = first; i < first + lanes; i++) {
            slots[i] = (uint32_t)pairs;
            if (!areas[i].width) continue;
            uint32_t bits;
            memcpy(&bits, image->records + i * (RECORD + image->channels) + 4, sizeof bits);
            keys[found] = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
            order[found++] = (uint32_t)i;
            pairs += (int64_t)areas[i].width * areas[i].height;
        }
    }
    job->counts[rank] = found;
    job->pairs[rank] = pairs;
    team_barrier(team);
    int64_t at = total(job->counts, rank);
    memcpy((uint32_t *)DATA(KEYS) + at, keys, (size_t)found * sizeof *keys);
    memcpy((uint32_t *)DATA(ORDER) + at, order, (size_t)found * sizeof *order);
    uint32_t before = (uint32_t)total(job->pairs, rank);
    for (int64_t i = begin; i < end; i++) slots[i] += before;
    if (rank == 0) {
        job->work->seen = total(job->counts, team->size);
        int64_t all = total(job->pairs, team->size);
        job->work->pairs = (uint32_t)all;
        if (all > INT32_MAX) job->work->failed = 1;
        reserve(job->work, LISTS, (size_t)all * sizeof(uint32_t));
    }
    team_barrier(team);
}

/* Stable radix sort of the indices by key; the result is in ORDER_B after three passes. */
static void sort(Job *job, Team *team, int rank) {
    uint32_t *keys = DATA(KEYS), *order = DATA(ORDER), *keys_b = DATA(KEYS_B), *order_b = DATA(ORDER_B);
    uint32_t *counts = DATA(COUNTS), *mine = counts + (size_t)rank * DIGITS;
    int64_t begin = share(team, rank, job->work->seen), end = share(team, rank + 1, job->work->seen);
    for (int shift = 0; shift < 32; shift += DIGIT_BITS) {
        memset(mine, 0, DIGITS * sizeof *mine);
        for (int64_t i = begin; i < end; i++) mine[keys[i] >> shift & (DIGITS - 1)]++;
        team_barrier(team);
        uint32_t starts[DIGITS], at = 0;
        for (int digit = 0; digit < DIGITS; digit++)
            for (int other = 0; other < team->size; other++) {
                if (other == rank) starts[digit] = at;
                at += counts[(size_t)other * DIGITS + digit];
            }
        for (int64_t i = begin; i < end; i++) {
            uint32_t to = starts[keys[i] >> shift & (DIGITS - 1)]++;
            keys_b[to] = keys[i];
            order_b[to] = order[i];
        }
        team_barrier(team);
        uint32_t *swap = keys;
        keys = keys_b, keys_b = swap;
        swap = order, order = order_b, order_b = swap;
    }
}

/* The splats of each tile, nearest first. */
static void list(Job *job, Team *team, int rank) {
    const int tiles = job->tiles_x * job->tiles_y;
    const uint32_t *order = DATA(ORDER_B);
    const Area *areas = DATA(AREAS);
    uint32_t *counts = DATA(TILES), *mine = counts + (size_t)rank * tiles, *starts = DATA(STARTS), *lists = DATA(LISTS);
    int64_t begin = share(team, rank, job->work->seen), end = share(team, rank + 1, job->work->seen);
    memset(mine, 0, (size_t)tiles * sizeof *mine);
    for (int64_t i = begin; i < end; i++) {
        Area area = areas[order[i]];
        for (int y = area.y; y < area.y + area.height; y++)
            for (int x = area.x; x < area.x + area.width; x++) mine[y * job->tiles_x + x]++;
    }
    team_barrier(team);
    if (rank == 0) {
        uint32_t at = 0;
        for (int tile = 0; tile < tiles; tile++) {
            starts[tile] = at;
            for (int other = 0; other < team->size; other++) {
                uint32_t count = counts[(size_t)other * tiles + tile];
                counts[(size_t)other * tiles + tile] = at;
                at += count;
            }
        }
        starts[tiles] = at;
    }
    team_barrier(team);
    for (int64_t i = begin; i < end; i++) {
        Area area = areas[order[i]];
        for (int y = area.y; y < area.y + area.height; y++)
            for (int x = area.x; x < area.x + area.width; x++) lists[mine[y * job->tiles_x + x]++] = order[i];
    }
    team_barrier(team);
}

/* A tile on its way through its splats. The planes hold one vector per block. */
typedef struct {
    const Job *job;
    int x, y, index;
    vfloat center_x[ACROSS], center_y[DOWN]; /* of the pixels of a block column, a block row */
    vfloat row_y;                            /* height of the first pixel centres of each block row */
    vfloat first, last;                      /* blocks of each row where something can still be blended: first <= i < last */
    vfloat *light;                           /* transmittance; negative where nothing is blended any more */
    uint16_t entries[BATCH * BLOCKS + LANES];
    int ends[BATCH]; /* of the entries of each splat */
    const Packed *splats[BATCH];
} Tile;

/* Finds the ends of the block rows in which something can still be blended; 0 when there is nothing left. */
static int find_open_blocks(Tile *tile) {
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

static void open_tile(const Job *job, int index, Tile *tile, vfloat *light) {
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

/* Lists the blocks (row * ACROSS + column) that each splat of a batch may touch. */
static void list_blocks(Tile *tile, const uint32_t *batch, int count) {
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

/* What one splat does to one block: its alpha and weight, and the light left behind it. */
typedef struct {
    vfloat dx, dy, raw, alpha, weight;
    vint blended;
} Blend;

INLINE Blend blend(const Tile *tile, const Packed *splat, unsigned block, float cut, float alpha_max, float stop) {
    Blend result;
    result.dx = tile->center_x[block % ACROSS] - splat->x;
    result.dy = tile->center_y[block / ACROSS] - splat->y;
    vfloat across = result.dx * splat->aa + result.dy * splat->bb;
    vfloat q = (splat->peak - result.dy * result.dy * splat->cc) - result.dx * across;
    vint drawn = q >= cut;
    result.raw = vexp2(q);
    result.alpha = vmin(result.raw, all_lanes(alpha_max));
    vfloat before = tile->light[block], weight = before * result.alpha, after = before - weight;
    result.blended = drawn & (after > stop);
    vfloat stopped = (vfloat)((vint)before | (drawn & INT32_MIN));
    tile->light[block] = choose(result.blended, after, stopped);
    result.weight = keep(result.blended, weight);
    return result;
}

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

/* Vectors of four blocks side by side to four rows of sixteen pixels, and back. */
INLINE void swap_blocks_and_rows(vfloat v[4]) {
    vfloat a = shuffle(v[0], v[1], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
    vfloat b = shuffle(v[0], v[1], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    vfloat c = shuffle(v[2], v[3], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
    vfloat d = shuffle(v[2], v[3], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    v[0] = shuffle(a, c, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    v[1] = shuffle(b, d, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    v[2] = shuffle(a, c, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    v[3] = shuffle(b, d, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
}

/* Four blocks side by side: 16 x 4 pixels. */
typedef struct {
    int block, left, right, top, bottom; /* columns left <= x < right and rows top <= y < bottom are in the window */
    int64_t pixel;                       /* index in the window of the (possibly outer) first pixel */
} Strip;

static Strip strip_of(const Tile *tile, int block) {
    const RasterImage *image = tile->job->image;
    int x = tile->x + block % ACROSS * BLOCK - image->x, y = tile->y + block / ACROSS * BLOCK - image->y;
    Strip strip = {block, 0, LANES, 0, BLOCK, (int64_t)y * image->width + x};
    if (x < 0) strip.left = -x;
    if (y < 0) strip.top = -y;
    if (x + LANES > image->width) strip.right = image->width - x;
    if (y + BLOCK > image->height) strip.bottom = image->height - y;
    return strip;
}

INLINE int whole(const Strip *strip) {
    return strip->left == 0 && strip->right == LANES && strip->top == 0 && strip->bottom == BLOCK;
}

/* Writes planes to an interleaved image of that many channels. */
static void store_planes(const Tile *tile, const vfloat *planes, float *image, int channels) {
    const int64_t width = tile->job->image->width;
    for (int block = 0; block < BLOCKS; block += 4) {
        const Strip strip = strip_of(tile, block);
        vfloat rows[3][4];
        float *to = image + strip.pixel * channels;
        if (channels == 3 && whole(&strip)) {
            for (int k = 0; k < 3; k++) {
                memcpy(rows[k], planes + k * PLANE + block, sizeof rows[k]);
                swap_blocks_and_rows(rows[k]);
            }
            for (int y = 0; y < BLOCK; y++) {
                vfloat r = rows[0][y], g = rows[1][y], b = rows[2][y];
                vfloat rg = shuffle(r, g, 0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5);
                vfloat gb = shuffle(g, b, 5, 21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10);
                vfloat br = shuffle(b, r, 10, 27, 0, 11, 28, 0, 12, 29, 0, 13, 30, 0, 14, 31, 0, 15);
                vfloat_unaligned *row = (vfloat_unaligned *)(to + y * width * 3);
                row[0] = shuffle(rg, b, 0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15);
                row[1] = shuffle(gb, r, 0, 1, 22, 3, 4, 23, 6, 7, 24, 9, 10, 25, 12, 13, 26, 15);
                row[2] = shuffle(br, g, 0, 1, 27, 3, 4, 28, 6, 7, 29, 9, 10, 30, 12, 13, 31, 15);
            }
            continue;
        }
        for (int k = 0; k < channels; k++) {
            memcpy(rows[0], planes + k * PLANE + block, sizeof rows[0]);
            swap_blocks_and_rows(rows[0]);
            for (int y = strip.top; y < strip.bottom; y++) {
                const float *row = (const float *)&rows[0][y];
                if (channels == 1 && whole(&strip))
                    *(vfloat_unaligned *)(to + y * width) = rows[0][y];
                else
                    for (int x = strip.left; x < strip.right; x++) to[(y * width + x) * channels + k] = row[x];
            }
        }
    }
}

/* Reads planes from an interleaved image; zeros outside the window and where there is no image. */
static void load_planes(const Tile *tile, vfloat *planes, const float *image, int channels) {
    const int64_t width = tile->job->image->width;
    if (!image) {
        memset(planes, 0, (size_t)channels * PLANE * sizeof *planes);
        return;
    }
    for (int block = 0; block < BLOCKS; block += 4) {
        const Strip strip = strip_of(tile, block);
        const float *from = image + strip.pixel * channels;
        vfloat rows[3][4];
        if (block + 2 * ACROSS < BLOCKS) /* the image comes from far away, in pieces too short for the hardware to foresee */
            for (int y = 2 * BLOCK; y < 3 * BLOCK; y++)
                for (int k = 0; k < channels; k++) __builtin_prefetch(from + y * width * channels + k * LANES);
        if (channels == 3 && whole(&strip)) {
            for (int y = 0; y < BLOCK; y++) {
                const vfloat_unaligned *row = (const vfloat_unaligned *)(from + y * width * 3);
                vfloat a = row[0], b = row[1], c = row[2];
                vfloat r = shuffle(a, b, 0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0);
                vfloat g = shuffle(a, b, 1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 0, 0, 0, 0, 0);
                vfloat h = shuffle(a, b, 2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 0, 0, 0, 0, 0, 0);
                rows[0][y] = shuffle(r, c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 20, 23, 26, 29);
                rows[1][y] = shuffle(g, c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18, 21, 24, 27, 30);
                rows[2][y] = shuffle(h, c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 19, 22, 25, 28, 31);
            }
            for (int k = 0; k < 3; k++) {
                swap_blocks_and_rows(rows[k]);
                memcpy(planes + k * PLANE + block, rows[k], sizeof rows[k]);
            }
            continue;
        }
        for (int k = 0; k < channels; k++) {
            memset(rows[0], 0, sizeof rows[0]);
            for (int y = strip.top; y < strip.bottom; y++) {
                float *row = (float *)&rows[0][y];
                if (channels == 1 && whole(&strip))
                    rows[0][y] = *(const vfloat_unaligned *)(from + y * width);
                else
                    for (int x = strip.left; x < strip.right; x++) row[x] = from[(y * width + x) * channels + k];
            }
            swap_blocks_and_rows(rows[0]);
            memcpy(planes + k * PLANE + block, rows[0], sizeof rows[0]);
        }
    }
}

static size_t planes_per_thread(const Job *job) {
    return 5 + 2 * (size_t)job->image->channels; /* what the backward pass needs */
}

static vfloat *planes_of(const Job *job, int rank) {
    return (vfloat *)DATA(PLANES) + (size_t)rank * PLANE * planes_per_thread(job);
}

static void forward_tile(const Job *job, Tile *tile, int index, int rank) {
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

/* Gradients that flow into a tile: of the channels, of alpha, and their product with the image, which is what lies
 * behind the first splat. `scratch` has a plane per channel. The gradient of the depth sum comes after the channels; it
 * acts on how much further than the expected depth a splat is, so that nothing of it lies behind the first splat, and
 * nothing cancels. */
static void open_gradients(const Tile *tile, vfloat *behind, vfloat *grad_alpha, vfloat *depth, vfloat *grads, vfloat *scratch) {
    const RasterImage *image = tile->job->image;
    load_planes(tile, grad_alpha, image->grad_alpha, 1);
    load_planes(tile, behind, image->alpha, 1);
    if (image->grad_depth) {
        vfloat *grad = grads + image->channels * PLANE;
        load_planes(tile, depth, image->depth, 1);
        load_planes(tile, grad, image->grad_depth, 1);
        for (int block = 0; block < BLOCKS; block++) {
            vint covered = behind[block] > 1e-10f; /* elsewhere the depth sum is divided by a constant: see contract.py */
            grad[block] /= vmax(behind[block], all_lanes(1e-10f));
            depth[block] = keep(covered, depth[block]);
        }
    }
    load_planes(tile, grads, image->grad_color, image->channels);
    load_planes(tile, scratch, image->color, image->channels);
    for (int block = 0; block < BLOCKS; block++) behind[block] *= grad_alpha[block];
    for (int k = 0; k < image->channels; k++)
        for (int block = 0; block < BLOCKS; block++) behind[block] += grads[k * PLANE + block] * scratch[k * PLANE + block];
}

/* Where the sums of a splat in a tile go. */
INLINE float *slot_of(const Job *job, int tile, uint32_t splat) {
    const Area area = ((const Area *)DATA(AREAS))[splat];
    const int x = tile % job->tiles_x - area.x, y = tile / job->tiles_x - area.y;
    const uint32_t slot = ((const uint32_t *)DATA(SLOTS_BEGIN))[splat] + (uint32_t)(y * area.width + x);
    return (float *)DATA(SLOTS) + (size_t)slot * job->slot;
}

INLINE void replay(Tile *tile, vfloat *behind, const vfloat *grad_alpha, const vfloat *depth, const vfloat *grads,
                   const int channels, const int deep, const int absolute) {
    const Job *job = tile->job;
    const uint32_t *lists = DATA(LISTS), *starts = DATA(STARTS), end = starts[tile->index + 1];
    const uint32_t done = ((const uint32_t *)DATA(DONE))[tile->index];
    const float cut = job->cut, alpha_max = job->image->alpha_max, stop = job->image->transmittance_stop;
    const int sums_used = SLOT + channels + deep, vectors = sums_used > LANES ? sums_used : LANES;
    vfloat sums[vectors];
    for (uint32_t i = starts[tile->index]; i < done; i += BATCH) {
        int count = (int)(end - i < BATCH ? end - i : BATCH), at = 0;
        find_open_blocks(tile);
        list_blocks(tile, lists + i, count);
        for (int j = 0; j < count; j++) {
            const Packed *splat = tile->splats[j];
            const float conic_a = splat->aa * (2 / LOG2E), conic_b = splat->bb / LOG2E, conic_c = splat->cc * (2 / LOG2E);
            float *out = slot_of(job, tile->index, lists[i + (uint32_t)j]);
            for (int k = 0; k < vectors; k++) sums[k] = all_lanes(0);
            for (; at < tile->ends[j]; at++) {
                unsigned block = tile->entries[at] % 256u;
                Blend one = blend(tile, splat, block, cut, alpha_max, stop);
                vfloat value = grad_alpha[block];
                for (int k = 0; k < channels; k++) {
                    vfloat grad = grads[k * PLANE + block];
                    value += grad * splat->channels[k];
                    sums[SLOT + k] += one.weight * grad;
                }
                if (deep) {
                    vfloat grad = grads[channels * PLANE + block];
                    value += grad * (splat->channels[channels] - depth[block]);
                    sums[SLOT + channels] += one.weight * grad;
                }
                vfloat own = one.weight * value, rest = behind[block] - own;
                behind[block] = rest;
                vfloat g = keep(one.blended & (one.raw <= alpha_max), own - rest * one.alpha / (1.0f - one.alpha));
                vfloat gx = g * one.dx, gy = g * one.dy;
                sums[0] += g;
                sums[1] += gx;
                sums[2] += gy;
                sums[3] += gx * one.dx;
                sums[4] += gx * one.dy;
                sums[5] += gy * one.dy;
                if (absolute) {
                    sums[6] += vabs(gx * conic_a + gy * conic_b);
                    sums[7] += vabs(gx * conic_b + gy * conic_c);
                }
            }
            *(vfloat *)out = sum_each(sums);
            for (int k = LANES; k < job->slot; k += LANES) {
                vfloat more[LANES];
                for (int lane = 0; lane < LANES; lane++)
                    more[lane] = k + lane < sums_used ? sums[k + lane] : all_lanes(0);
                *(vfloat *)(out + k) = sum_each(more);
            }
        }
    }
    for (uint32_t i = done; i < end; i++)
        memset(slot_of(job, tile->index, lists[i]), 0, (size_t)job->slot * sizeof(float));
}

static void backward_tile(const Job *job, Tile *tile, int index, int rank) {
    const int channels = job->image->channels, deep = job->image->grad_depth != NULL;
    vfloat *light = planes_of(job, rank), *behind = light + PLANE, *grad_alpha = behind + PLANE;
    vfloat *depth = grad_alpha + PLANE, *grads = depth + PLANE, *scratch = grads + (size_t)(channels + 1) * PLANE;
    open_tile(job, index, tile, light);
    open_gradients(tile, behind, grad_alpha, depth, grads, scratch);
#define REPLAY(channels, deep, absolute) replay(tile, behind, grad_alpha, depth, grads, channels, deep, absolute)
    switch (channels == 3 ? 2 * deep + (job->image->absgrad != NULL) : -1) {
        case 0: REPLAY(3, 0, 0); break;
        case 1: REPLAY(3, 0, 1); break;
        case 2: REPLAY(3, 1, 0); break;
        case 3: REPLAY(3, 1, 1); break;
        default: REPLAY(channels, deep, job->image->absgrad != NULL);
    }
#undef REPLAY
}

/* Gradients of each splat from the sums of its slots, in slot order. */
static void gather(const Job *job, Team *team, int rank) {
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

static void forward(void *argument, Team *team, int rank) {
    Job *job = argument;
    Workspace *work = job->work;
    const size_t count = (size_t)job->image->count, threads = (size_t)team->size;
    const size_t tiles = (size_t)job->tiles_x * (size_t)job->tiles_y;
    if (rank == 0) {
        reserve(work, KEYS, count * 4), reserve(work, KEYS_B, count * 4);
        reserve(work, ORDER, count * 4), reserve(work, ORDER_B, count * 4);
        reserve(work, PACKS, count * (size_t)job->stride * 4);
        reserve(work, AREAS, count * sizeof(Area)), reserve(work, SLOTS_BEGIN, count * 4);
        reserve(work, COUNTS, threads * DIGITS * 4);
        reserve(work, TILES, threads * tiles * 4), reserve(work, STARTS, (tiles + 1) * 4), reserve(work, DONE, tiles * 4);
        reserve(work, PLANES, threads * PLANE * planes_per_thread(job) * sizeof(vfloat));
    }
    team_barrier(team);
    if (work->failed) return;
    collect(job, team, rank);
    if (work->failed) return;
    sort(job, team, rank);
    list(job, team, rank);
    Tile tile;
    for (int64_t index; (index = job->next++) < (int64_t)tiles;) forward_tile(job, &tile, (int)index, rank);
}

static void backward(void *argument, Team *team, int rank) {
    Job *job = argument;
    Workspace *work = job->work;
    const int64_t tiles = (int64_t)job->tiles_x * job->tiles_y;
    if (rank == 0) {
        reserve(work, SLOTS, (size_t)work->pairs * (size_t)job->slot * 4);
        reserve(work, PLANES, (size_t)team->size * PLANE * planes_per_thread(job) * sizeof(vfloat));
    }
    team_barrier(team);
    if (work->failed) return;
    Tile tile;
    for (int64_t index; (index = job->next++) < tiles;) backward_tile(job, &tile, (int)index, rank);
    team_barrier(team);
    gather(job, team, rank);
}

static int run(void *workspace, const RasterImage *image, TeamFunction function) {
    Workspace *work = workspace;
    int channels = image->channels + (image->depth != NULL);
    Job job = {
        .image = image,
        .work = work,
        .channels = channels,
        .stride = (PACKED + channels + LANES - 1) / LANES * LANES,
        .slot = (SLOT + channels + LANES - 1) / LANES * LANES,
        .tile_x = image->x / TILE_WIDTH,
        .tile_y = image->y / TILE_HEIGHT,
        .cut = fmaxf(log2f(image->alpha_cut), -126.0f),
    };
    job.tiles_x = (image->x + image->width - 1) / TILE_WIDTH - job.tile_x + 1;
    job.tiles_y = (image->y + image->height - 1) / TILE_HEIGHT - job.tile_y + 1;
    work->failed = 0;
    team_run(image->threads, function, &job);
    return work->failed;
}

int qsplat_raster_forward(void *workspace, const RasterImage *image) {
    return run(workspace, image, forward);
}

int qsplat_raster_backward(void *workspace, const RasterImage *image) {
    return run(workspace, image, backward);
}

/* Depth sort, binning and compositing of 2D Gaussians, forward and backward. The equation is in ../contract.py.
 *
 * Splats are sorted by depth once and packed in that order; a stable counting sort then lists them per tile. A tile is
 * made of blocks of 4x4 pixels, one vector each. For a splat and a tile, the blocks that the ellipse alpha = alpha_cut
 * touches are listed first (all block rows at once), then composited in one flat loop.
 *
 * The backward pass replays the forward one, nearest splat first: what is still behind a splat is the final image
 * minus what was blended so far. Each (splat, tile) pair writes its sums to a slot of its own, in splat order, and the
 * slots are added up afterwards, so that results do not depend on the number of threads. */
#include "kernels.h"

#include <stdlib.h>

#include "parallel.h"
#include "vector.h"

#define BLOCK 4
#define ACROSS 16 /* blocks per tile: the ids of one block row are stored as one vector */
#define DOWN 8    /* at most 16: the block rows of a tile are solved as one vector */
#define BLOCKS (ACROSS * DOWN)
#define TILE_WIDTH (ACROSS * BLOCK)
#define TILE_HEIGHT (DOWN * BLOCK)
#define RECORD 5    /* floats of an input record before the channels */
#define SLOT 8      /* sums of a slot before the channels: 6 moments, 2 absolute gradients */
#define PACKED 12   /* floats of a packed splat before the channels */
#define PREFETCH 8  /* splats ahead */
#define PATIENCE 32 /* splats between looking whether the tile is finished */
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
    int16_t x, y, width, height; /* tiles */
} Area;

typedef struct {
    void *data;
    size_t size;
} Buffer;

enum { KEYS, KEYS_B, ORDER, ORDER_B, COUNTS, PACKS, AREAS, SLOTS_BEGIN, TILES, STARTS, LISTS, DONE, SLOTS, PLANES, BUFFERS };

typedef struct {
    Buffer buffers[BUFFERS];
    int64_t seen; /* splats that reach the window, and (splat, tile) pairs */
    uint32_t pairs;
    int failed;
} Workspace;

typedef struct {
    const RasterImage *image;
    Workspace *work;
    int channels, stride, slot;           /* with depth; floats of a packed splat, of a slot */
    int tile_x, tile_y, tiles_x, tiles_y; /* the tile grid is that of the whole image */
    float cut;                            /* log2(alpha_cut) */
    int64_t counts[MAX_THREADS];
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

static int floor_div(int value, int by) {
    return value >= 0 ? value / by : -((-value + by - 1) / by);
}

static int clamp_int(float value, int low, int high) {
    return value <= (float)low ? low : value >= (float)high ? high : (int)value;
}

/* Half width and height of the ellipse where alpha reaches the cut; negative when it never does. */
static void extent(const Job *job, const float *record, float *across, float *down) {
    double a = record[0], b = record[1], c = record[2], det = a * c - b * b;
    double level = 2.0 * 0.6931471805599453 * (log2f(record[3]) - job->cut);
    int drawn = level >= 0 && det > 0 && a > 0 && c > 0;
    *across = drawn ? (float)sqrt(level * c / det) + 0.01f : -1;
    *down = drawn ? (float)sqrt(level * a / det) + 0.01f : -1;
}

static Area area_of(const Job *job, float x, float y, float across, float down) {
    const RasterImage *image = job->image;
    Area none = {0, 0, 0, 0};
    float left = x - across - 0.5f, right = x + across - 0.5f, top = y - down - 0.5f, bottom = y + down - 0.5f;
    if (!(across >= 0 && right >= (float)image->x && left <= (float)(image->x + image->width - 1) &&
          bottom >= (float)image->y && top <= (float)(image->y + image->height - 1)))
        return none;
    int x0 = clamp_int(ceilf(left), image->x, image->x + image->width - 1) / TILE_WIDTH;
    int x1 = clamp_int(floorf(right), image->x, image->x + image->width - 1) / TILE_WIDTH;
    int y0 = clamp_int(ceilf(top), image->y, image->y + image->height - 1) / TILE_HEIGHT;
    int y1 = clamp_int(floorf(bottom), image->y, image->y + image->height - 1) / TILE_HEIGHT;
    if (x1 < x0 || y1 < y0) return none;
    return (Area){(int16_t)(x0 - job->tile_x), (int16_t)(y0 - job->tile_y), (int16_t)(x1 - x0 + 1), (int16_t)(y1 - y0 + 1)};
}

static int64_t total(const int64_t *counts, int size) {
    int64_t sum = 0;
    for (int i = 0; i < size; i++) sum += counts[i];
    return sum;
}

/* Keys and indices of the splats that reach the window, in index order. */
static void collect(Job *job, Team *team, int rank) {
    const RasterImage *image = job->image;
    int64_t begin = share(team, rank, image->count), end = share(team, rank + 1, image->count), found = 0;
    uint32_t *keys = (uint32_t *)DATA(KEYS_B) + begin, *order = (uint32_t *)DATA(ORDER_B) + begin;
    for (int64_t i = begin; i < end; i++) {
        const float *record = image->records + i * (RECORD + image->channels);
        float across, down;
        if (image->radii[i] <= 0) continue;
        extent(job, record, &across, &down);
        if (area_of(job, image->means2d[2 * i], image->means2d[2 * i + 1], across, down).width == 0) continue;
        uint32_t bits;
        memcpy(&bits, &record[4], sizeof bits);
        keys[found] = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
        order[found++] = (uint32_t)i;
    }
    job->counts[rank] = found;
    team_barrier(team);
    int64_t at = total(job->counts, rank);
    memcpy((uint32_t *)DATA(KEYS) + at, keys, (size_t)found * sizeof *keys);
    memcpy((uint32_t *)DATA(ORDER) + at, order, (size_t)found * sizeof *order);
    if (rank == 0) job->work->seen = total(job->counts, team->size);
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

/* Packed splats in depth order, the tiles that each reaches, and the number per tile and thread. */
static void pack(Job *job, Team *team, int rank) {
    const RasterImage *image = job->image;
    Workspace *work = job->work;
    const uint32_t *order = DATA(ORDER_B);
    int64_t begin = share(team, rank, work->seen), end = share(team, rank + 1, work->seen);
    int64_t tiles = (int64_t)job->tiles_x * job->tiles_y;
    uint32_t *tile_counts = (uint32_t *)DATA(TILES) + rank * tiles, *slots = DATA(SLOTS_BEGIN);
    Area *areas = DATA(AREAS);
    int64_t pairs = 0;
    memset(tile_counts, 0, (size_t)tiles * sizeof *tile_counts);
    for (int64_t i = begin; i < end; i++) {
        int64_t from = order[i];
        const float *record = image->records + from * (RECORD + image->channels);
        Packed *to = (Packed *)((float *)DATA(PACKS) + i * job->stride);
        float across, down;
        extent(job, record, &across, &down);
        to->x = image->means2d[2 * from], to->y = image->means2d[2 * from + 1];
        Area area = area_of(job, to->x, to->y, across, down);
        double a = record[0], b = record[1], c = record[2], det = a * c - b * b;
        to->aa = record[0] * (0.5f * LOG2E), to->bb = record[1] * LOG2E, to->cc = record[2] * (0.5f * LOG2E);
        to->peak = log2f(record[3]);
        to->lean = (float)(-b / a);
        to->width2 = (float)((to->peak - job->cut) / (0.5 * LOG2E * a));
        to->narrow = (float)(det / (a * a));
        to->turn = (float)(-b / c) * across;
        to->reach = down;
        to->unused = 0;
        for (int k = 0; k < image->channels; k++) to->channels[k] = record[RECORD + k];
        if (image->depth) to->channels[image->channels] = record[4];
        areas[i] = area;
        slots[i] = (uint32_t)pairs;
        pairs += (int64_t)area.width * area.height;
        for (int y = area.y; y < area.y + area.height; y++)
            for (int x = area.x; x < area.x + area.width; x++) tile_counts[y * job->tiles_x + x]++;
    }
    job->counts[rank] = pairs;
    team_barrier(team);
    uint32_t before = (uint32_t)total(job->counts, rank);
    for (int64_t i = begin; i < end; i++) slots[i] += before;
}

/* The splats of each tile, nearest first. */
static void list(Job *job, Team *team, int rank) {
    Workspace *work = job->work;
    int tiles = job->tiles_x * job->tiles_y;
    uint32_t *counts = DATA(TILES), *starts = DATA(STARTS);
    if (rank == 0) {
        int64_t pairs = total(job->counts, team->size);
        work->pairs = (uint32_t)pairs;
        if (pairs > INT32_MAX) work->failed = 1;
        reserve(work, LISTS, (size_t)pairs * sizeof(uint32_t));
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
    if (work->failed) return;
    int64_t begin = share(team, rank, work->seen), end = share(team, rank + 1, work->seen);
    uint32_t *mine = counts + (size_t)rank * tiles, *lists = DATA(LISTS);
    const Area *areas = DATA(AREAS);
    for (int64_t i = begin; i < end; i++) {
        Area area = areas[i];
        for (int y = area.y; y < area.y + area.height; y++)
            for (int x = area.x; x < area.x + area.width; x++) lists[mine[y * job->tiles_x + x]++] = (uint32_t)i;
    }
    team_barrier(team);
}

/* Where a tile lies, the part of it that is inside the window (in blocks), and its pixel centres. */
typedef struct {
    int x, y, left, right, top, bottom;
    vfloat center_x[ACROSS], center_y[DOWN];
    vfloat row_y; /* height of the first pixel centre of each block row */
} Tile;

static void open_tile(const Job *job, int index, Tile *tile) {
    const RasterImage *image = job->image;
    const vint column = IOTA_INT & (BLOCK - 1), row = IOTA_INT >> 2;
    tile->x = (index % job->tiles_x + job->tile_x) * TILE_WIDTH;
    tile->y = (index / job->tiles_x + job->tile_y) * TILE_HEIGHT;
    int right = image->x + image->width - 1 - tile->x, bottom = image->y + image->height - 1 - tile->y;
    tile->left = image->x > tile->x ? (image->x - tile->x) / BLOCK : 0;
    tile->top = image->y > tile->y ? (image->y - tile->y) / BLOCK : 0;
    tile->right = right < TILE_WIDTH ? right / BLOCK : ACROSS - 1;
    tile->bottom = bottom < TILE_HEIGHT ? bottom / BLOCK : DOWN - 1;
    for (int i = 0; i < ACROSS; i++)
        tile->center_x[i] = __builtin_convertvector(column + (tile->x + i * BLOCK), vfloat) + 0.5f;
    for (int i = 0; i < DOWN; i++)
        tile->center_y[i] = __builtin_convertvector(row + (tile->y + i * BLOCK), vfloat) + 0.5f;
    tile->row_y = __builtin_convertvector(IOTA_INT * BLOCK + tile->y, vfloat) + 0.5f;
}

/* Ids (row * ACROSS + column) of the blocks that the splat's ellipse may touch; returns how many. */
INLINE int touched_blocks(const Tile *tile, const Packed *splat, int32_t *ids) {
    float top = (splat->y - splat->reach - (float)tile->y - 3.5f) * 0.25f;
    float bottom = (splat->y + splat->reach - (float)tile->y - 0.5f) * 0.25f;
    int first = clamp_int(ceilf(top), tile->top, tile->bottom + 1);
    int last = clamp_int(floorf(bottom), tile->top - 1, tile->bottom);
    vfloat above = tile->row_y - splat->y, below = above + 3.0f;
    vfloat right = vmin(vmax(all_lanes(splat->turn), above), below), left = vmin(vmax(all_lanes(-splat->turn), above), below);
    right = right * splat->lean + vsqrt(vmax(splat->width2 - right * right * splat->narrow, all_lanes(0)));
    left = left * splat->lean - vsqrt(vmax(splat->width2 - left * left * splat->narrow, all_lanes(0)));
    float x = splat->x - (float)tile->x;
    vfloat from = (left + (x - 3.5f - 0.02f)) * 0.25f + 1.0f, to = (right + (x - 0.5f + 0.02f)) * 0.25f + 1.0f;
    from = vmin(vmax(from, all_lanes((float)tile->left)), all_lanes((float)tile->right + 1));
    to = vmin(vmax(to, all_lanes((float)tile->left)), all_lanes((float)tile->right + 1));
    vint begin = __builtin_convertvector(from, vint), end = __builtin_convertvector(to, vint);
    int32_t *at = ids;
    vint start = begin + IOTA_INT * ACROSS, number = end - begin;
    int32_t starts[LANES], numbers[LANES];
    memcpy(starts, &start, sizeof starts);
    memcpy(numbers, &number, sizeof numbers);
    for (int row = first; row <= last; row++) {
        *(vint_unaligned *)at = IOTA_INT + starts[row];
        at += numbers[row] > 0 ? numbers[row] : 0;
    }
    return (int)(at - ids);
}

/* Mask of the pixels of a block that lie inside the window. */
static vint inside(const Job *job, const Tile *tile, int block) {
    const RasterImage *image = job->image;
    vint x = (IOTA_INT & (BLOCK - 1)) + (tile->x + block % ACROSS * BLOCK - image->x);
    vint y = (IOTA_INT >> 2) + (tile->y + block / ACROSS * BLOCK - image->y);
    return (x >= 0) & (x < image->width) & (y >= 0) & (y < image->height);
}

/* Light that is left behind the splats so far; negative where nothing is blended any more. */
static void open_transmittance(const Job *job, const Tile *tile, vfloat *light) {
    for (int block = 0; block < BLOCKS; block++)
        light[block] = choose(inside(job, tile, block), all_lanes(1), all_lanes(-1));
}

static int finished(const vfloat *light) {
    vint all = {0};
    for (int block = 0; block < BLOCKS; block++) all |= light[block] > 0;
    return !any(all);
}

/* Planes of `channels` values per pixel, and rows of the window. */
typedef struct {
    int row, column, rows, columns; /* first pixel inside the tile, number inside the window */
    int64_t pixel;                  /* that first pixel's index in the window */
} Patch;

static Patch patch_of(const Job *job, const Tile *tile) {
    const RasterImage *image = job->image;
    int x0 = tile->x > image->x ? tile->x : image->x, y0 = tile->y > image->y ? tile->y : image->y;
    int x1 = tile->x + TILE_WIDTH, y1 = tile->y + TILE_HEIGHT;
    if (x1 > image->x + image->width) x1 = image->x + image->width;
    if (y1 > image->y + image->height) y1 = image->y + image->height;
    return (Patch){y0 - tile->y, x0 - tile->x, y1 - y0, x1 - x0, (int64_t)(y0 - image->y) * image->width + (x0 - image->x)};
}

INLINE int lane_of(int row, int column) {
    return (row / BLOCK * ACROSS + column / BLOCK) * LANES + row % BLOCK * BLOCK + column % BLOCK;
}

static void store_plane(const Job *job, const Tile *tile, const float *plane, float *image, int stride) {
    Patch patch = patch_of(job, tile);
    for (int y = 0; y < patch.rows; y++) {
        float *to = image + (patch.pixel + (int64_t)y * job->image->width) * stride;
        for (int x = 0; x < patch.columns; x++)
            to[(int64_t)x * stride] = plane[lane_of(patch.row + y, patch.column + x)];
    }
}

static void load_plane(const Job *job, const Tile *tile, float *plane, const float *image, int stride) {
    Patch patch = patch_of(job, tile);
    memset(plane, 0, BLOCKS * sizeof(vfloat));
    for (int y = 0; image && y < patch.rows; y++) {
        const float *from = image + (patch.pixel + (int64_t)y * job->image->width) * stride;
        for (int x = 0; x < patch.columns; x++)
            plane[lane_of(patch.row + y, patch.column + x)] = from[(int64_t)x * stride];
    }
}

/* Planes of a thread: light, behind, then two times the channels. */
static vfloat *planes_of(const Job *job, int rank) {
    return (vfloat *)DATA(PLANES) + (size_t)rank * BLOCKS * (4 + 2 * (size_t)job->channels);
}

INLINE vfloat log2_alpha(const Tile *tile, const Packed *splat, int block, vfloat *dx, vfloat *dy) {
    *dx = tile->center_x[block % ACROSS] - splat->x;
    *dy = tile->center_y[block / ACROSS] - splat->y;
    vfloat across = *dx * splat->aa + *dy * splat->bb;
    return (splat->peak - *dy * *dy * splat->cc) - *dx * across;
}

INLINE uint32_t composite(Job *job, int index, const Tile *tile, vfloat *light, vfloat *color, const int channels) {
    const uint32_t *lists = DATA(LISTS), *starts = DATA(STARTS);
    const float *packs = DATA(PACKS);
    const uint32_t begin = starts[index], end = starts[index + 1];
    int32_t ids[BLOCKS + LANES];
    for (uint32_t i = begin; i < end; i++) {
        if ((i - begin) % PATIENCE == PATIENCE - 1 && finished(light)) return i;
        const Packed *splat = (const Packed *)(packs + (size_t)lists[i] * job->stride);
        __builtin_prefetch(packs + (size_t)lists[i + PREFETCH < end ? i + PREFETCH : i] * job->stride);
        int count = touched_blocks(tile, splat, ids);
        for (int at = 0; at < count; at++) {
            int block = ids[at];
            vfloat dx, dy, q = log2_alpha(tile, splat, block, &dx, &dy);
            vint drawn = q >= job->cut;
            vfloat alpha = vmin(vexp2(q), all_lanes(job->image->alpha_max)), before = light[block];
            vfloat weight = before * alpha, after = before - weight;
            vint blended = drawn & (after > job->image->transmittance_stop);
            vfloat stopped = (vfloat)((vint)before | (drawn & INT32_MIN));
            light[block] = choose(blended, after, stopped);
            weight = keep(blended, weight);
            for (int k = 0; k < channels; k++) color[k * BLOCKS + block] += weight * splat->channels[k];
        }
    }
    return end;
}

static void forward_tile(Job *job, int index, int rank) {
    const RasterImage *image = job->image;
    Tile tile;
    vfloat *light = planes_of(job, rank), *color = light + BLOCKS;
    uint32_t done;
    open_tile(job, index, &tile);
    open_transmittance(job, &tile, light);
    memset(color, 0, BLOCKS * sizeof(vfloat) * (size_t)job->channels);
    switch (job->channels) {
        case 1: done = composite(job, index, &tile, light, color, 1); break;
        case 3: done = composite(job, index, &tile, light, color, 3); break;
        case 4: done = composite(job, index, &tile, light, color, 4); break;
        default: done = composite(job, index, &tile, light, color, job->channels);
    }
    ((uint32_t *)DATA(DONE))[index] = done;
    for (int block = 0; block < BLOCKS; block++)
        light[block] = 1.0f - (vfloat)((vint)light[block] & INT32_MAX);
    for (int k = 0; k < image->channels; k++)
        store_plane(job, &tile, (float *)(color + k * BLOCKS), image->color + k, image->channels);
    store_plane(job, &tile, (float *)light, image->alpha, 1);
    if (image->depth) {
        vfloat *depth = color + image->channels * BLOCKS;
        for (int block = 0; block < BLOCKS; block++) depth[block] /= vmax(light[block], all_lanes(1e-10f));
        store_plane(job, &tile, (float *)depth, image->depth, 1);
    }
}

/* Gradients that flow into a tile: of the channels (the last may be the depth sum), of alpha, and their product with
 * the image, which is what lies behind the first splat. */
static void open_gradients(const Job *job, const Tile *tile, vfloat *behind, vfloat *grad_alpha, vfloat *grads, vfloat *scratch) {
    const RasterImage *image = job->image;
    vfloat *alpha = scratch, *value = scratch + BLOCKS;
    load_plane(job, tile, (float *)grad_alpha, image->grad_alpha, 1);
    load_plane(job, tile, (float *)alpha, image->alpha, 1);
    memset(behind, 0, BLOCKS * sizeof(vfloat));
    for (int k = 0; k < image->channels; k++) {
        vfloat *grad = grads + k * BLOCKS;
        load_plane(job, tile, (float *)grad, image->grad_color ? image->grad_color + k : NULL, image->channels);
        load_plane(job, tile, (float *)value, image->color + k, image->channels);
        for (int block = 0; block < BLOCKS; block++) behind[block] += grad[block] * value[block];
    }
    if (image->depth) {
        vfloat *grad = grads + image->channels * BLOCKS;
        load_plane(job, tile, (float *)grad, image->grad_depth, 1);
        load_plane(job, tile, (float *)value, image->depth, 1);
        for (int block = 0; block < BLOCKS; block++) {
            vfloat covered = vmax(alpha[block], all_lanes(1e-10f)), depth_sum = value[block] * covered;
            grad[block] /= covered;
            grad_alpha[block] -= keep(alpha[block] > 1e-10f, grad[block] * value[block]);
            behind[block] += grad[block] * depth_sum;
        }
    }
    for (int block = 0; block < BLOCKS; block++) behind[block] += grad_alpha[block] * alpha[block];
}

INLINE void replay(Job *job, int index, const Tile *tile, vfloat *light, vfloat *behind, const vfloat *grad_alpha,
                   const vfloat *grads, const int channels, const int absolute) {
    const uint32_t *lists = DATA(LISTS), *starts = DATA(STARTS), *slots_begin = DATA(SLOTS_BEGIN);
    const Area *areas = DATA(AREAS);
    const float *packs = DATA(PACKS);
    const uint32_t begin = starts[index], done = ((const uint32_t *)DATA(DONE))[index], end = starts[index + 1];
    const int tile_x = index % job->tiles_x, tile_y = index / job->tiles_x;
    const int vectors = SLOT + (channels > 8 ? channels : 8);
    vfloat sums[vectors];
    int32_t ids[BLOCKS + LANES];
    for (uint32_t i = begin; i < end; i++) {
        const uint32_t which = lists[i];
        const Area area = areas[which];
        const uint32_t slot = slots_begin[which] + (uint32_t)((tile_y - area.y) * area.width + (tile_x - area.x));
        float *out = (float *)DATA(SLOTS) + (size_t)slot * job->slot;
        if (i >= done) {
            memset(out, 0, (size_t)job->slot * sizeof(float));
            continue;
        }
        const Packed *splat = (const Packed *)(packs + (size_t)which * job->stride);
        __builtin_prefetch(packs + (size_t)lists[i + PREFETCH < end ? i + PREFETCH : i] * job->stride);
        const float conic_a = splat->aa * (2 / LOG2E), conic_b = splat->bb / LOG2E, conic_c = splat->cc * (2 / LOG2E);
        int count = touched_blocks(tile, splat, ids);
        for (int k = 0; k < vectors; k++) sums[k] = all_lanes(0);
        for (int at = 0; at < count; at++) {
            int block = ids[at];
            vfloat dx, dy, q = log2_alpha(tile, splat, block, &dx, &dy);
            vint drawn = q >= job->cut;
            vfloat raw = vexp2(q), alpha = vmin(raw, all_lanes(job->image->alpha_max)), before = light[block];
            vfloat weight = before * alpha, after = before - weight;
            vint blended = drawn & (after > job->image->transmittance_stop);
            vfloat stopped = (vfloat)((vint)before | (drawn & INT32_MIN));
            light[block] = choose(blended, after, stopped);
            weight = keep(blended, weight);
            vfloat value = grad_alpha[block];
            for (int k = 0; k < channels; k++) {
                vfloat grad = grads[k * BLOCKS + block];
                value += grad * splat->channels[k];
                sums[SLOT + k] += weight * grad;
            }
            vfloat own = weight * value, rest = behind[block] - own;
            behind[block] = rest;
            vfloat g = keep(blended & (raw <= job->image->alpha_max), own - rest * alpha / (1.0f - alpha));
            vfloat gx = g * dx, gy = g * dy;
            sums[0] += g;
            sums[1] += gx;
            sums[2] += gy;
            sums[3] += gx * dx;
            sums[4] += gx * dy;
            sums[5] += gy * dy;
            if (absolute) {
                sums[6] += (vfloat)((vint)(gx * conic_a + gy * conic_b) & INT32_MAX);
                sums[7] += (vfloat)((vint)(gx * conic_b + gy * conic_c) & INT32_MAX);
            }
        }
        *(vfloat *)out = sum_each(sums);
        for (int k = LANES; k < job->slot; k += LANES) {
            vfloat more[LANES];
            for (int lane = 0; lane < LANES; lane++) more[lane] = k + lane < SLOT + channels ? sums[k + lane] : all_lanes(0);
            *(vfloat *)(out + k) = sum_each(more);
        }
    }
}

static void backward_tile(Job *job, int index, int rank) {
    Tile tile;
    vfloat *light = planes_of(job, rank), *behind = light + BLOCKS, *grad_alpha = behind + BLOCKS;
    vfloat *grads = grad_alpha + BLOCKS, *scratch = grads + (size_t)job->channels * BLOCKS;
    open_tile(job, index, &tile);
    open_gradients(job, &tile, behind, grad_alpha, grads, scratch);
    open_transmittance(job, &tile, light);
#define REPLAY(channels)                                                                    \
    if (job->image->absgrad)                                                                \
        replay(job, index, &tile, light, behind, grad_alpha, grads, channels, 1);           \
    else                                                                                    \
        replay(job, index, &tile, light, behind, grad_alpha, grads, channels, 0);
    switch (job->channels) {
        case 1: REPLAY(1) break;
        case 3: REPLAY(3) break;
        case 4: REPLAY(4) break;
        default: REPLAY(job->channels)
    }
#undef REPLAY
}

/* Gradients of each splat from the sums of its slots, in slot order. */
static void gather(Job *job, Team *team, int rank) {
    const RasterImage *image = job->image;
    const Workspace *work = job->work;
    const uint32_t *order = DATA(ORDER_B), *slots_begin = DATA(SLOTS_BEGIN);
    const int width = RECORD + image->channels;
    int64_t begin = share(team, rank, work->seen), end = share(team, rank + 1, work->seen);
    float sums[SLOT + job->channels];
    for (int64_t i = begin; i < end; i++) {
        int64_t to = order[i];
        uint32_t last = i + 1 < work->seen ? slots_begin[i + 1] : work->pairs;
        memset(sums, 0, sizeof sums);
        for (uint32_t slot = slots_begin[i]; slot < last; slot++) {
            const float *from = (const float *)DATA(SLOTS) + (size_t)slot * job->slot;
            for (int k = 0; k < SLOT + job->channels; k++) sums[k] += from[k];
        }
        const float *record = image->records + to * width;
        float *grad = image->grad_records + to * width, *grad_mean = image->grad_means2d + 2 * to;
        grad_mean[0] = record[0] * sums[1] + record[1] * sums[2];
        grad_mean[1] = record[1] * sums[1] + record[2] * sums[2];
        grad[0] = -0.5f * sums[3];
        grad[1] = -sums[4];
        grad[2] = -0.5f * sums[5];
        grad[3] = sums[0] / record[3];
        grad[4] = image->depth ? sums[SLOT + image->channels] : 0;
        for (int k = 0; k < image->channels; k++) grad[RECORD + k] = sums[SLOT + k];
        if (image->absgrad) image->absgrad[2 * to] = sums[6], image->absgrad[2 * to + 1] = sums[7];
    }
}

static void clear(const Team *team, int rank, float *values, int64_t count) {
    int64_t begin = share(team, rank, count), end = share(team, rank + 1, count);
    if (values) memset(values + begin, 0, (size_t)(end - begin) * sizeof *values);
}

static void forward(void *argument, Team *team, int rank) {
    Job *job = argument;
    Workspace *work = job->work;
    const size_t count = (size_t)job->image->count, threads = (size_t)team->size;
    const size_t tiles = (size_t)job->tiles_x * (size_t)job->tiles_y;
    if (rank == 0) {
        reserve(work, KEYS, count * 4), reserve(work, KEYS_B, count * 4);
        reserve(work, ORDER, count * 4), reserve(work, ORDER_B, count * 4);
        reserve(work, COUNTS, threads * DIGITS * 4);
        reserve(work, TILES, threads * tiles * 4), reserve(work, STARTS, (tiles + 1) * 4), reserve(work, DONE, tiles * 4);
        reserve(work, PLANES, threads * BLOCKS * (4 + 2 * (size_t)job->channels) * sizeof(vfloat));
    }
    team_barrier(team);
    if (work->failed) return;
    collect(job, team, rank);
    if (rank == 0) {
        size_t seen = (size_t)work->seen;
        reserve(work, PACKS, seen * (size_t)job->stride * 4);
        reserve(work, AREAS, seen * sizeof(Area)), reserve(work, SLOTS_BEGIN, seen * 4);
    }
    sort(job, team, rank);
    if (work->failed) return;
    pack(job, team, rank);
    list(job, team, rank);
    if (work->failed) return;
    for (int64_t tile; (tile = job->next++) < (int64_t)tiles;) forward_tile(job, (int)tile, rank);
}

static void backward(void *argument, Team *team, int rank) {
    Job *job = argument;
    Workspace *work = job->work;
    const int64_t count = job->image->count, tiles = (int64_t)job->tiles_x * job->tiles_y;
    if (rank == 0) {
        reserve(work, SLOTS, (size_t)work->pairs * (size_t)job->slot * 4);
        reserve(work, PLANES, (size_t)team->size * BLOCKS * (4 + 2 * (size_t)job->channels) * sizeof(vfloat));
    }
    clear(team, rank, job->image->grad_means2d, count * 2);
    clear(team, rank, job->image->grad_records, count * (RECORD + job->image->channels));
    clear(team, rank, job->image->absgrad, count * 2);
    team_barrier(team);
    if (work->failed) return;
    for (int64_t tile; (tile = job->next++) < tiles;) backward_tile(job, (int)tile, rank);
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
        .tile_x = floor_div(image->x, TILE_WIDTH),
        .tile_y = floor_div(image->y, TILE_HEIGHT),
        .cut = fmaxf(log2f(image->alpha_cut), -126.0f),
    };
    job.tiles_x = floor_div(image->x + image->width - 1, TILE_WIDTH) - job.tile_x + 1;
    job.tiles_y = floor_div(image->y + image->height - 1, TILE_HEIGHT) - job.tile_y + 1;
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

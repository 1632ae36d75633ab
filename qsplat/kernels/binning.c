/* Which splats reach which tile, nearest first. Splats are sorted by depth once; a stable counting sort then lists them
 * per tile. */
#include "raster.h"

#define DIGIT_BITS 11
#define DIGITS (1 << DIGIT_BITS)

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
                         -b / c * across, down,
                         (vfloat)left, (vfloat)top, (vfloat)columns, (vfloat)lines};
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
        else reserve(job->work, LISTS, (size_t)all * sizeof(uint32_t));
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

void bin(Job *job, Team *team, int rank) {
    if (rank == 0) {
        Workspace *work = job->work;
        const size_t count = (size_t)job->image->count, threads = (size_t)team->size;
        const size_t tiles = (size_t)job->tiles_x * (size_t)job->tiles_y;
        reserve(work, KEYS, count * 4), reserve(work, KEYS_B, count * 4);
        reserve(work, ORDER, count * 4), reserve(work, ORDER_B, count * 4);
        reserve(work, PACKS, count * (size_t)job->stride * 4);
        reserve(work, AREAS, count * sizeof(Area)), reserve(work, SLOTS_BEGIN, count * 4);
        reserve(work, COUNTS, threads * DIGITS * 4);
        reserve(work, TILES, threads * tiles * 4), reserve(work, STARTS, (tiles + 1) * 4);
    }
    team_barrier(team);
    if (job->work->failed) return;
    collect(job, team, rank);
    if (job->work->failed) return;
    sort(job, team, rank);
    list(job, team, rank);
}

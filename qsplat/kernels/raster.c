/* Depth sort, binning and compositing of 2D Gaussians, forward and backward. The equation is in ../render/contract.py.
 *
 * Splats are sorted by depth once; a stable counting sort then lists them per tile. A tile is made of blocks of 4x4
 * pixels, one vector each. Splats of a tile are taken in batches: first the blocks that the ellipse alpha = alpha_cut
 * touches are listed (all block rows of a splat at once), then one flat loop composites them. Blocks at the ends of a
 * row in which nothing can be blended any more are left out.
 *
 * The backward pass replays the forward one, nearest splat first: what is still behind a splat is the final image
 * minus what was blended so far. Each (splat, tile) pair writes its sums to a slot of its own, in splat order, and the
 * slots are added up afterwards, so that results do not depend on the number of threads. */
#include "raster.h"

static void forward(void *argument, Team *team, int rank) {
    Job *job = argument;
    Workspace *work = job->work;
    const int64_t tiles = (int64_t)job->tiles_x * job->tiles_y;
    if (rank == 0) {
        reserve(work, DONE, (size_t)tiles * 4);
        reserve(work, PLANES, (size_t)team->size * PLANE * planes_per_thread(job) * sizeof(vfloat));
    }
    bin(job, team, rank);
    if (work->failed) return;
    Tile tile;
    for (int64_t index; (index = job->next++) < tiles;) forward_tile(job, &tile, (int)index, rank);
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

#include "workspace.h"

#include <stdlib.h>

#include "kernels.h"

void *qsplat_workspace_create(void) {
    return calloc(1, sizeof(Workspace));
}

void qsplat_workspace_destroy(void *workspace) {
    Workspace *work = workspace;
    for (int i = 0; i < BUFFERS; i++) free(work->buffers[i].data);
    free(work);
}

void *reserve(Workspace *work, int which, size_t size) {
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

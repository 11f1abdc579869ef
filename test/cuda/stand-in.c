/*
 * Stands in for the CUDA 13 runtime, cuBLAS and the driver, so that ggml's CUDA backend can be tested where there is no GPU: it lists one
 * device that takes every kernel and computes none. What runs for real is all that the backend does on the processor: which operations it
 * takes, how it lays out memory and copies, how it launches. So this says nothing of results.
 *
 * It is stricter than a device: memory of the device cannot be touched by the processor at all, copies must stay inside of it, and a
 * launch with a grid, a block or shared memory that no device of this kind has is an error.
 *
 * Layouts and constants are those of the public headers of CUDA 13 (driver_types.h). `build.sh` compiles it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, INVALID_CONFIGURATION = 9, NOT_SUPPORTED = 801 };
enum { WARP = 32, THREADS_PER_BLOCK = 1024, MULTIPROCESSORS = 132, MOST_Y = 65535 };
static const size_t DEVICE_BYTES = (size_t)16 << 30;
static const size_t SHARED_BYTES_OF_BLOCK = 49152, SHARED_BYTES_AT_MOST = 232448;
static const size_t PAGE = 4096;

typedef struct {
    unsigned x, y, z;
} dim3;

/* ---- what a test asks for ---- */

static size_t used_bytes;
static uint64_t launches, products;

uint64_t stand_in_used_bytes(void) { return used_bytes; }
/* Of kernels and of cuBLAS' products; those of a captured graph count once, when it is captured. */
uint64_t stand_in_launches(void) { return launches + products; }

/* ---- memory ---- */

/* The same pages twice: at the address that the backend is given nobody can read or write, copies go through the other one. */
typedef struct {
    char *device, *copy;
    size_t bytes;
} block;

static block blocks[1 << 16];
static int block_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *map(int file, size_t bytes, int protection) {
    void *address = mmap(NULL, bytes, protection, MAP_SHARED, file, 0);
    return address == MAP_FAILED ? NULL : address;
}

int cudaMalloc(void **address, size_t size) {
    size_t bytes = (size + PAGE) & ~(PAGE - 1);
    int file = memfd_create("stand-in", 0);
    if (file < 0 || ftruncate(file, (off_t)bytes) != 0) return OUT_OF_MEMORY;
    block made = {map(file, bytes, PROT_NONE), map(file, bytes, PROT_READ | PROT_WRITE), bytes};
    close(file);
    pthread_mutex_lock(&lock);
    int slot = 0;
    while (slot < block_count && blocks[slot].device) slot++;
    int fits = made.device && made.copy && slot < (int)(sizeof blocks / sizeof *blocks) && used_bytes + bytes <= DEVICE_BYTES;
    if (fits) {
        blocks[slot] = made;
        used_bytes += bytes;
        if (slot == block_count) block_count++;
    }
    pthread_mutex_unlock(&lock);
    *address = made.device;
    return fits ? SUCCESS : OUT_OF_MEMORY;
}

int cudaMallocManaged(void **address, size_t bytes, unsigned flags) { return cudaMalloc(address, bytes); }

int cudaFree(void *address) {
    pthread_mutex_lock(&lock);
    for (int i = 0; i < block_count; i++) {
        if (!address || blocks[i].device != address) continue;
        munmap(blocks[i].device, blocks[i].bytes);
        munmap(blocks[i].copy, blocks[i].bytes);
        used_bytes -= blocks[i].bytes;
        blocks[i].device = NULL;
    }
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

/* Where the processor may touch what lies at an address of the device; other addresses are its own. */
static void *reach(const void *address, size_t bytes) {
    char *found = (char *)address;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < block_count; i++) {
        block *each = &blocks[i];
        if (!each->device || found < each->device || found >= each->device + each->bytes) continue;
        if (found + bytes > each->device + each->bytes) {
            fprintf(stderr, "stand-in for CUDA: %zu bytes reach behind the end of a block\n", bytes);
            abort();
        }
        found = each->copy + (found - each->device);
        break;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream) {
    memmove(reach(to, bytes), reach(from, bytes), bytes);
    return SUCCESS;
}

int cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes, void *stream) {
    return cudaMemcpyAsync(to, from, bytes, 0, stream);
}

int cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows, int kind, void *stream) {
    for (size_t row = 0; row < rows; row++) {
        cudaMemcpyAsync((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width, kind, stream);
    }
    return SUCCESS;
}

int cudaMemsetAsync(void *address, int value, size_t bytes, void *stream) {
    memset(reach(address, bytes), value, bytes);
    return SUCCESS;
}

int cudaMemset(void *address, int value, size_t bytes) { return cudaMemsetAsync(address, value, bytes, NULL); }

int cudaMallocHost(void **address, size_t bytes) {
    *address = aligned_alloc(PAGE, (bytes + PAGE) & ~(PAGE - 1));
    return *address ? SUCCESS : OUT_OF_MEMORY;
}

int cudaHostAlloc(void **address, size_t bytes, unsigned flags) { return cudaMallocHost(address, bytes); }

int cudaFreeHost(void *address) {
    free(address);
    return SUCCESS;
}

int cudaHostRegister(void *address, size_t bytes, unsigned flags) { return SUCCESS; }
int cudaHostUnregister(void *address) { return SUCCESS; }

int cudaHostGetDevicePointer(void **device, void *host, unsigned flags) {
    *device = host;
    return SUCCESS;
}

int cudaMemGetInfo(size_t *free_bytes, size_t *all_bytes) {
    *all_bytes = DEVICE_BYTES;
    *free_bytes = DEVICE_BYTES - used_bytes;
    return SUCCESS;
}

/* ---- the device ---- */

int cudaGetDeviceCount(int *count) {
    *count = 1;
    return SUCCESS;
}

int cudaGetDevice(int *device) {
    *device = 0;
    return SUCCESS;
}

int cudaSetDevice(int device) { return SUCCESS; }
int cudaSetDeviceFlags(unsigned flags) { return SUCCESS; }
int cudaDeviceSynchronize(void) { return SUCCESS; }
int cudaDeviceEnablePeerAccess(int peer, unsigned flags) { return SUCCESS; }

int cudaDeviceCanAccessPeer(int *can, int device, int peer) {
    *can = 0;
    return SUCCESS;
}

int cudaDeviceGetPCIBusId(char *text, int bytes, int device) {
    snprintf(text, bytes, "0000:00:00.0");
    return SUCCESS;
}

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    enum { MULTIPROCESSOR_COUNT = 16, COOPERATIVE_LAUNCH = 95, SHARED_BYTES_OPT_IN = 97 };
    *value = attribute == MULTIPROCESSOR_COUNT  ? MULTIPROCESSORS
             : attribute == COOPERATIVE_LAUNCH  ? 1
             : attribute == SHARED_BYTES_OPT_IN ? (int)SHARED_BYTES_AT_MOST
                                                : 0;
    return SUCCESS;
}

static void put_int(char *fields, size_t offset, int value) { memcpy(fields + offset, &value, sizeof value); }
static void put_size(char *fields, size_t offset, size_t value) { memcpy(fields + offset, &value, sizeof value); }

/* A device of compute capability 9.0, by the offsets in `struct cudaDeviceProp`. */
int cudaGetDeviceProperties(char *fields, int device) {
    memset(fields, 0, 1008);
    strcpy(fields, "Stand-in that computes nothing");
    put_size(fields, 288, DEVICE_BYTES);
    put_size(fields, 296, SHARED_BYTES_OF_BLOCK);
    put_int(fields, 304, 65536); /* regsPerBlock */
    put_int(fields, 308, WARP);
    put_int(fields, 320, THREADS_PER_BLOCK);
    put_int(fields, 360, 9); /* major */
    put_int(fields, 384, MULTIPROCESSORS);
    put_int(fields, 392, 1); /* canMapHostMemory */
    put_int(fields, 588, 1); /* unifiedAddressing */
    put_int(fields, 596, 50 << 20); /* l2CacheSize */
    put_int(fields, 604, 2048); /* maxThreadsPerMultiProcessor */
    put_size(fields, 624, 233472); /* sharedMemPerMultiprocessor */
    put_int(fields, 668, 1); /* cooperativeLaunch */
    put_size(fields, 672, SHARED_BYTES_AT_MOST);
    put_int(fields, 688, WARP); /* maxBlocksPerMultiProcessor */
    return SUCCESS;
}

/* ---- streams, events and captured graphs: everything is over at once ---- */

static int make_handle(void **handle) {
    *handle = malloc(1);
    return *handle ? SUCCESS : OUT_OF_MEMORY;
}

static int free_handle(void *handle) {
    free(handle);
    return SUCCESS;
}

int cudaStreamCreateWithFlags(void **stream, unsigned flags) { return make_handle(stream); }
int cudaStreamDestroy(void *stream) { return free_handle(stream); }
int cudaStreamSynchronize(void *stream) { return SUCCESS; }
int cudaStreamWaitEvent(void *stream, void *event, unsigned flags) { return SUCCESS; }
int cudaStreamBeginCapture(void *stream, int mode) { return SUCCESS; }
int cudaStreamEndCapture(void *stream, void **graph) { return make_handle(graph); }

int cudaStreamIsCapturing(void *stream, int *status) {
    *status = 0;
    return SUCCESS;
}

int cudaEventCreateWithFlags(void **event, unsigned flags) { return make_handle(event); }
int cudaEventDestroy(void *event) { return free_handle(event); }
int cudaEventRecord(void *event, void *stream) { return SUCCESS; }
int cudaEventSynchronize(void *event) { return SUCCESS; }
int cudaGraphInstantiate(void **executable, void *graph, unsigned long long flags) { return make_handle(executable); }
int cudaGraphExecUpdate(void *executable, void *graph, void *result) { return SUCCESS; }
int cudaGraphLaunch(void *executable, void *stream) { return SUCCESS; }
int cudaGraphDestroy(void *graph) { return free_handle(graph); }
int cudaGraphExecDestroy(void *executable) { return free_handle(executable); }

/* ---- kernels ---- */

static int launch(dim3 grid, dim3 block, size_t shared_bytes) {
    __atomic_add_fetch(&launches, 1, __ATOMIC_RELAXED);
    int is_empty = !grid.x || !grid.y || !grid.z || !block.x || !block.y || !block.z;
    int is_large = grid.x > INT32_MAX || grid.y > MOST_Y || grid.z > MOST_Y || shared_bytes > SHARED_BYTES_AT_MOST;
    if (!is_empty && !is_large && (size_t)block.x * block.y * block.z <= THREADS_PER_BLOCK) return SUCCESS;
    fprintf(stderr, "stand-in for CUDA: a grid of %u x %u x %u, blocks of %u x %u x %u, %zu shared bytes\n", grid.x, grid.y, grid.z, block.x,
            block.y, block.z, shared_bytes);
    return INVALID_CONFIGURATION;
}

int cudaLaunchCooperativeKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared_bytes, void *stream) {
    return launch(grid, block, shared_bytes);
}

int __cudaLaunchKernel(void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared_bytes, void *stream) {
    return launch(grid, block, shared_bytes);
}

typedef struct {
    dim3 grid, block;
    size_t shared_bytes;
} launch_config;

int cudaLaunchKernelExC(const launch_config *config, const void *kernel, void **arguments) {
    return launch(config->grid, config->block, config->shared_bytes);
}

static __thread struct {
    launch_config launch;
    void *stream;
} pushed;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, void *stream) {
    pushed.launch = (launch_config){grid, block, shared_bytes};
    pushed.stream = stream;
    return SUCCESS;
}

int __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared_bytes, void **stream) {
    *grid = pushed.launch.grid;
    *block = pushed.launch.block;
    *shared_bytes = pushed.launch.shared_bytes;
    *stream = pushed.stream;
    return SUCCESS;
}

int __cudaGetKernel(void **kernel, const void *function) {
    *kernel = (void *)function;
    return SUCCESS;
}

int cudaFuncSetAttribute(const void *kernel, int attribute, int value) { return SUCCESS; }

int cudaFuncGetAttributes(char *fields, const void *kernel) {
    memset(fields, 0, 144);
    put_int(fields, 24, THREADS_PER_BLOCK);
    put_int(fields, 28, 32); /* numRegs */
    put_int(fields, 32, 90); /* ptxVersion */
    put_int(fields, 36, 90); /* binaryVersion */
    return SUCCESS;
}

int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *kernel, int threads, size_t shared, unsigned flags) {
    *blocks = 2;
    return SUCCESS;
}

void **__cudaRegisterFatBinary(void *binary) {
    static void *handle;
    return &handle;
}

void __cudaRegisterFatBinaryEnd(void **handle) {}
void __cudaUnregisterFatBinary(void **handle) {}
void __cudaRegisterFunction(void) {}
void __cudaRegisterVar(void) {}

const char *cudaGetErrorString(int error) { return "an error of the stand-in for CUDA"; }
int cudaGetLastError(void) { return SUCCESS; }
int cudaPeekAtLastError(void) { return SUCCESS; }

/* ---- cuBLAS ---- */

int cublasCreate_v2(void **handle) { return make_handle(handle); }
int cublasDestroy_v2(void *handle) { return free_handle(handle); }
const char *cublasGetStatusString(int status) { return "a status of the stand-in for cuBLAS"; }
int cublasSetMathMode(void *handle, int mode) { return SUCCESS; }
int cublasSetStream_v2(void *handle, void *stream) { return SUCCESS; }
int cublasSetWorkspace_v2(void *handle, void *workspace, size_t bytes) { return SUCCESS; }

static int multiply(void) {
    __atomic_add_fetch(&products, 1, __ATOMIC_RELAXED);
    return SUCCESS;
}

int cublasGemmEx(void) { return multiply(); }
int cublasGemmBatchedEx(void) { return multiply(); }
int cublasGemmStridedBatchedEx(void) { return multiply(); }
int cublasSgemm_v2(void) { return multiply(); }
int cublasSgemmBatched(void) { return multiply(); }
int cublasSgemmStridedBatched(void) { return multiply(); }
int cublasStrsmBatched(void) { return multiply(); }

/* ---- the driver: a device without virtual memory of its own management ---- */

int cuDeviceGet(int *device, int number) {
    *device = number;
    return SUCCESS;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = 0;
    return SUCCESS;
}

int cuGetErrorString(int error, const char **text) {
    *text = "an error of the stand-in for the driver of CUDA";
    return SUCCESS;
}

int cuMemAddressFree(void) { return NOT_SUPPORTED; }
int cuMemAddressReserve(void) { return NOT_SUPPORTED; }
int cuMemCreate(void) { return NOT_SUPPORTED; }
int cuMemGetAllocationGranularity(void) { return NOT_SUPPORTED; }
int cuMemMap(void) { return NOT_SUPPORTED; }
int cuMemRelease(void) { return NOT_SUPPORTED; }
int cuMemSetAccess(void) { return NOT_SUPPORTED; }
int cuMemUnmap(void) { return NOT_SUPPORTED; }

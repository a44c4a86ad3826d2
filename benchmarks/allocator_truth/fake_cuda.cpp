// The part of the CUDA runtime and driver that PyTorch's caching allocator calls, without a GPU.
//
// Memory is a counter: segments and pages are granted until FAKE_DEVICE_BYTES are used up, at
// addresses that rise and are never used again. Events are finished when fake_finish says so.
// Built once per CUDA major as libcudart.so.N, which libc10_cuda.so then loads.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>

namespace {

size_t device_bytes() {
  static const size_t bytes = strtoull(getenv("FAKE_DEVICE_BYTES"), nullptr, 10);
  return bytes;
}

size_t used = 0;
size_t next_address = 2 << 20;
size_t next_name = 1;
std::map<size_t, size_t> segments;  // address -> bytes
std::map<size_t, size_t> pages;     // handle -> bytes
std::map<size_t, size_t> event_stream;
std::set<size_t> finished;

size_t take_addresses(size_t bytes) {
  const size_t address = next_address;
  next_address += bytes;
  return address;
}

CUresult address_reserve(CUdeviceptr* address, size_t bytes, size_t, CUdeviceptr,
                         unsigned long long) {
  *address = take_addresses(bytes);
  return CUDA_SUCCESS;
}

CUresult create(CUmemGenericAllocationHandle* handle, size_t bytes, const CUmemAllocationProp*,
                unsigned long long) {
  if (used + bytes > device_bytes()) return CUDA_ERROR_OUT_OF_MEMORY;
  used += bytes;
  *handle = next_name++;
  pages[*handle] = bytes;
  return CUDA_SUCCESS;
}

CUresult release(CUmemGenericAllocationHandle handle) {
  used -= pages.at(handle);
  pages.erase(handle);
  return CUDA_SUCCESS;
}

CUresult granularity(size_t* bytes, const void*, int) {
  *bytes = 2 << 20;
  return CUDA_SUCCESS;
}

CUresult attribute(int* value, int, int) {
  *value = 1;
  return CUDA_SUCCESS;
}

CUresult nothing() { return CUDA_SUCCESS; }

void* driver_function(const std::string& name) {
  if (name == "cuMemAddressReserve") return reinterpret_cast<void*>(address_reserve);
  if (name == "cuMemCreate") return reinterpret_cast<void*>(create);
  if (name == "cuMemRelease") return reinterpret_cast<void*>(release);
  if (name == "cuMemGetAllocationGranularity") return reinterpret_cast<void*>(granularity);
  if (name == "cuDeviceGetAttribute") return reinterpret_cast<void*>(attribute);
  return reinterpret_cast<void*>(nothing);  // mapping, access rights: nothing to do
}

}  // namespace

#undef cudaGetDriverEntryPoint
#undef cudaGetDriverEntryPointByVersion
#if CUDART_VERSION < 13000
#define cudaGetDeviceProperties cudaGetDeviceProperties_v2
#endif

extern "C" {

void fake_finish(size_t stream) {
  for (const auto& [event, its_stream] : event_stream)
    if (its_stream == stream) finished.insert(event);
}

void* fake_driver_function(const char* name) { return driver_function(name); }

cudaError_t cudaGetDriverEntryPoint(const char* name, void** function, unsigned long long,
                                    cudaDriverEntryPointQueryResult* result) {
  if (result) *result = cudaDriverEntryPointSuccess;
  *function = driver_function(name);
  return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned,
                                             unsigned long long flags,
                                             cudaDriverEntryPointQueryResult* result) {
  return cudaGetDriverEntryPoint(name, function, flags, result);
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  if (used + bytes > device_bytes()) return cudaErrorMemoryAllocation;
  used += bytes;
  const size_t address = take_addresses(bytes);
  segments[address] = bytes;
  *pointer = reinterpret_cast<void*>(address);
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  const auto segment = segments.find(reinterpret_cast<size_t>(pointer));
  if (segment == segments.end()) return pointer ? cudaErrorInvalidValue : cudaSuccess;
  used -= segment->second;
  segments.erase(segment);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = device_bytes();
  *free = *total - used;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  memset(properties, 0, sizeof(*properties));
  properties->totalGlobalMem = device_bytes();
  properties->major = 8;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(next_name++);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event_stream[reinterpret_cast<size_t>(event)] = reinterpret_cast<size_t>(stream);
  finished.erase(reinterpret_cast<size_t>(event));
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return finished.count(reinterpret_cast<size_t>(event)) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  finished.insert(reinterpret_cast<size_t>(event));
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t) { return "fake"; }
const char* cudaGetErrorString(cudaError_t) { return "fake"; }
}

// libcuda.so.1 and libnvidia-ml.so.1: older releases look their functions up in these by name.
// Every driver call goes on to the one in fake_cuda.cpp, so that there is one counter of memory.
#include <cstddef>

extern "C" {

void* fake_driver_function(const char* name);

#define FORWARD(name)                                                                    \
  int name(void* a, void* b, void* c, void* d, void* e) {                                \
    return reinterpret_cast<int (*)(void*, void*, void*, void*, void*)>(                 \
        fake_driver_function(#name))(a, b, c, d, e);                                     \
  }

FORWARD(cuMemAddressReserve)
FORWARD(cuMemAddressFree)
FORWARD(cuMemCreate)
FORWARD(cuMemRelease)
FORWARD(cuMemMap)
FORWARD(cuMemUnmap)
FORWARD(cuMemSetAccess)
FORWARD(cuMemGetAllocationGranularity)
FORWARD(cuMemExportToShareableHandle)
FORWARD(cuMemImportFromShareableHandle)
FORWARD(cuMemsetD32Async)
FORWARD(cuStreamWriteValue32)
FORWARD(cuMulticastAddDevice)
FORWARD(cuMulticastBindMem)
FORWARD(cuMulticastCreate)
FORWARD(cuMulticastUnbind)
FORWARD(cuCtxGetCurrent)
FORWARD(cuDeviceGetAttribute)
FORWARD(cuGetErrorString)

int nvmlInit_v2() { return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char*, void** device) {
  *device = nullptr;
  return 0;
}
int nvmlDeviceGetGpuFabricInfoV(void*, void*) { return 0; }  // left zero: not in a fabric
int nvmlDeviceGetNvLinkRemoteDeviceType(void*, unsigned, int*) { return 3; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void*, unsigned, void*) { return 3; }
int nvmlDeviceGetComputeRunningProcesses(void*, unsigned* count, void*) {
  *count = 0;
  return 0;
}
int nvmlSystemGetCudaDriverVersion_v2(int* version) {
  *version = 13000;
  return 0;
}
}

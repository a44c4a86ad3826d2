// Runs a program (see programs.py) from standard input through the allocator of libc10_cuda.so
// and prints its counters after each step.
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>
#if __has_include(<c10/cuda/PeerToPeerAccess.h>)
#include <c10/cuda/PeerToPeerAccess.h>
#define HAS_PEER_CACHE
#endif

#include <cstdio>
#include <iostream>
#include <unordered_map>

namespace c10::cuda::_internal {
void setHasPrimaryContext(bool (*)(c10::DeviceIndex));
}
extern "C" void fake_finish(size_t stream);

using c10::cuda::CUDACachingAllocator::get;

namespace {

cudaStream_t stream_of(size_t number) { return reinterpret_cast<cudaStream_t>(number * 4096); }

bool has_context(c10::DeviceIndex) { return true; }

void record_stream(void* pointer, size_t stream) {
  c10::DataPtr data(pointer, pointer, get()->raw_deleter(), c10::Device(c10::kCUDA, 0));
  get()->recordStream(data, c10::cuda::getStreamFromExternal(stream_of(stream), 0));
  data.release_context();
}

void empty_cache() {
#ifdef EMPTY_CACHE_OF_ALL
  get()->emptyCache();
#else
  get()->emptyCache({0, 0});
#endif
}

void print(bool failed) {
  const auto stats = get()->getDeviceStats(0);
  printf("%d %ld %ld %ld %ld %ld %ld\n", failed, long(stats.requested_bytes[0].current),
         long(stats.allocated_bytes[0].current), long(stats.active_bytes[0].current),
         long(stats.reserved_bytes[0].current), long(stats.segment[0].current),
         long(stats.num_alloc_retries));
}

}  // namespace

int main(int, char** arguments) {
  c10::cuda::_internal::setHasPrimaryContext(has_context);
  get()->init(1);
#ifdef HAS_PEER_CACHE
  c10::cuda::detail::init_p2p_access_cache(1);
#endif
  const double fraction = atof(arguments[1]);
  if (fraction > 0) get()->setMemoryFraction(fraction, 0);
  std::unordered_map<size_t, void*> live;
  char what;
  size_t key, bytes, stream;
  while (std::cin >> what >> key >> bytes >> stream) {
    bool failed = false;
    const auto block = live.find(key);
    if (what == 'a') {
      try {
        live[key] = get()->raw_alloc_with_stream(bytes, stream_of(stream));
      } catch (const c10::OutOfMemoryError& error) {
        failed = true;
        fprintf(stderr, "%s\n", error.what_without_backtrace());
      }
    } else if (what == 'f' && block != live.end()) {
      get()->raw_delete(block->second);
      live.erase(block);
    } else if (what == 'e') {
      empty_cache();
    } else if (what == 'r' && block != live.end()) {
      record_stream(block->second, stream);
    } else if (what == 's') {
      fake_finish(4096 * stream);
    }
    print(failed);
  }
}

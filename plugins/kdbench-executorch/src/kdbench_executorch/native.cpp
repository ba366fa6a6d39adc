// The C++ runtime of ExecuTorch behind six C functions, for a machine without torch.
//
// The wheel ships the runtime as shared libraries that need no torch, and headers for them
// (executorch/share/cmake/executorch-config.cmake); only its Python binding links libtorch.

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor_ptr.h>
#include <executorch/runtime/backend/interface.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

// The wheel has the library of the thread pool and not its header (extension/threadpool/threadpool.h).
namespace executorch::extension::threadpool {
class ThreadPool final {
 public:
  size_t get_thread_count() const;
  bool _unsafe_reset_threadpool(uint32_t count);
};
ThreadPool* get_threadpool();
} // namespace executorch::extension::threadpool

namespace {

using executorch::aten::ScalarType;
using executorch::extension::Module;
using executorch::extension::TensorPtr;
using executorch::runtime::Error;
using executorch::runtime::Method;

struct Held {
  std::unique_ptr<Module> module;
  Method* method = nullptr;
  std::vector<TensorPtr> inputs;
};

int say(char* fault, size_t room, const char* what, Error error) {
  std::snprintf(fault, room, "%s failed with error 0x%x", what, static_cast<unsigned>(error));
  return 1;
}

} // namespace

extern "C" {

uint32_t kx_threads() {
  return executorch::extension::threadpool::get_threadpool()->get_thread_count();
}

// Every method that is open keeps a pointer to the pool that this destroys: close them first.
void kx_use_threads(uint32_t count) {
  executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(count);
}

// The name of the i-th delegate that is linked in, or null.
const char* kx_backend(uint32_t index) {
  auto name = executorch::runtime::get_backend_name(index);
  return name.ok() ? name.get() : nullptr;
}

// Open a program for inputs of these types and shapes; `sizes` holds the shapes one after another.
void* kx_open(
    const char* path,
    int32_t count,
    const int32_t* types,
    const int32_t* ranks,
    const int32_t* sizes,
    char* fault,
    size_t room) {
  auto held = std::make_unique<Held>();
  held->module = std::make_unique<Module>(std::string(path), Module::LoadMode::File);
  auto method = held->module->method("forward");
  if (!method.ok()) {
    say(fault, room, "Loading the method 'forward'", method.error());
    return nullptr;
  }
  held->method = method.get();
  for (int32_t index = 0; index < count; sizes += ranks[index++]) {
    held->inputs.push_back(executorch::extension::make_tensor_ptr(
        std::vector<executorch::aten::SizesType>(sizes, sizes + ranks[index]),
        nullptr,
        {},
        {},
        static_cast<ScalarType>(types[index])));
  }
  return held.release();
}

// Run once; `bytes` are the sizes of the outputs, which are copied to `outputs`. Answers 0, or 1 with a fault.
int kx_run(
    void* handle,
    void* const* inputs,
    void* const* outputs,
    const size_t* bytes,
    int32_t count,
    char* fault,
    size_t room) {
  auto* held = static_cast<Held*>(handle);
  for (size_t index = 0; index < held->inputs.size(); ++index) {
    held->inputs[index]->unsafeGetTensorImpl()->set_data(inputs[index]);
    const Error error = held->method->set_input(*held->inputs[index], index);
    if (error != Error::Ok) {
      return say(fault, room, "Setting an input", error);
    }
  }
  const Error error = held->method->execute();
  if (error != Error::Ok) {
    return say(fault, room, "Executing the method", error);
  }
  for (int32_t index = 0; index < count; ++index) {
    const auto& value = held->method->get_output(index);
    if (!value.isTensor() || value.toTensor().nbytes() != bytes[index]) {
      return say(fault, room, "An output is not of the declared size: reading it", Error::InvalidState);
    }
    std::memcpy(outputs[index], value.toTensor().const_data_ptr(), bytes[index]);
  }
  return 0;
}

void kx_close(void* handle) {
  delete static_cast<Held*>(handle);
}

} // extern "C"

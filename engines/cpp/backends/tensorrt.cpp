// TensorRT and TensorRT-RTX on an NVIDIA GPU: plans that `htr-export trt` built. Compiled once for each of the two.
#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <list>
#include <memory>

#include "engine.hpp"
#include "sidecar.hpp"

namespace htr {
namespace {

#ifdef HTR_RTX
constexpr const char* runtime_name = "tensorrt-rtx";
constexpr bool captures_itself = true;  // it first runs general kernels, so only it knows when capturing pays
#else
constexpr const char* runtime_name = "tensorrt";
constexpr bool captures_itself = false;
#endif
constexpr std::size_t max_contexts = 8;  // the one not used for longest goes first

void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess)
    throw EngineError(std::string("CUDA's ") + call + " failed: " + cudaGetErrorString(status) +
                      "; look at the driver and the GPU's memory with nvidia-smi");
}

class Logger final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    if (severity <= Severity::kERROR) std::strncpy(last_, message, sizeof last_ - 1);
  }
  std::string last() const { return *last_ ? first_line(last_) : "it gave no reason"; }

 private:
  char last_[500] = {};
};
Logger logger;  // TensorRT keeps the first one that it is given

void must(bool accepted, const std::string& what) {
  if (!accepted)
    throw EngineError("TensorRT refused " + what + ": " + logger.last() + "; build the plan again on this machine");
}

std::string library_version() {
  const int version = getInferLibVersion();
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
}

std::string compute_capability() {
  int device = 0, major = 0, minor = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "cudaDeviceGetAttribute");
  return std::to_string(major) + "." + std::to_string(minor);
}

Shape shape_of(const nvinfer1::Dims& dims) {
  if (dims.nbDims != 4) throw EngineError("the plan does not take images [N,1,H,W]; build it with 'htr-export trt'");
  Shape shape{};
  std::copy_n(dims.d, 4, shape.begin());
  return shape;
}

nvinfer1::Dims dims_of(const Shape& shape) {
  nvinfer1::Dims dims{};
  dims.nbDims = 4;
  std::copy(shape.begin(), shape.end(), dims.d);
  return dims;
}

struct Stream {
  Stream() { check(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "cudaStreamCreate"); }
  ~Stream() { cudaStreamDestroy(handle); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  void wait() const { check(cudaStreamSynchronize(handle), "cudaStreamSynchronize"); }
  cudaStream_t handle = nullptr;
};

// Float32 memory on the GPU with its pinned twin on the host; grows with the largest tensor and never shrinks.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { clear(); }
  bool holds(std::size_t count) const { return count <= count_; }
  void grow(std::size_t count) {
    if (holds(count)) return;
    clear();
    check(cudaMallocHost(reinterpret_cast<void**>(&host), count * sizeof(float)), "cudaMallocHost");
    check(cudaMalloc(reinterpret_cast<void**>(&device), count * sizeof(float)), "cudaMalloc");
    count_ = count;
  }
  float *host = nullptr, *device = nullptr;

 private:
  void clear() {
    cudaFree(device);
    cudaFreeHost(host);
    host = device = nullptr;
    count_ = 0;
  }
  std::size_t count_ = 0;
};

struct Slot {  // a context with its graph once there is one
  SubBatch key;
  std::unique_ptr<nvinfer1::IExecutionContext> context;
  int runs = 0;  // since its shape and its buffers were set
  cudaGraphExec_t graph = nullptr;

  void drop_graph() {
    if (graph) cudaGraphExecDestroy(graph);
    graph = nullptr;
    runs = 0;
  }
  ~Slot() { drop_graph(); }
};

class TensorRtEngine final : public Engine {
 public:
  explicit TensorRtEngine(const ModelFile& model) {
    device = "cuda:0";
    version = library_version();
    const Sidecar sidecar = read_sidecar(model.sidecar, model.path);
    check_fits(sidecar, model, runtime_name, version, compute_capability());
    runtime_.reset(nvinfer1::createInferRuntime(logger));
    must(runtime_ != nullptr, "to start");
    if (sidecar.version_compatible) runtime_->setEngineHostCodeAllowed(true);  // such a plan brings its own runtime
    engine_.reset(runtime_->deserializeCudaEngine(model.content.data(), model.content.size()));
    if (!engine_)
      throw EngineError("TensorRT cannot read " + model.path + ": " + logger.last() + "; build it again: " + sidecar.command);
    input_ = sidecar.input;
    output_ = sidecar.output;
    check_tensors(model.path);
    find_profiles();
    if (!captures_itself) {
      memory_size_ = std::max<std::int64_t>(1, engine_->getDeviceMemorySizeV2());
      check(cudaMalloc(&memory_, static_cast<std::size_t>(memory_size_)), "cudaMalloc");
    }
  }

  ~TensorRtEngine() override {
    slots_.clear();
    cudaFree(memory_);
  }

  Logits infer(const Batch& image) override {
    Logits all;
    int done = 0;
    for (const SubBatch& part : split_batch(profiles_, {image.lines, 1, image.height, image.width})) {
      const Logits some = run(part, image.values.data() + static_cast<std::size_t>(done) * image.height * image.width);
      all.frames = some.frames;
      all.classes = some.classes;
      all.values.insert(all.values.end(), some.values.begin(), some.values.end());
      done += part.lines;
    }
    all.lines = done;
    return all;
  }

 private:
  void check_tensors(const std::string& path) const {
    using nvinfer1::DataType;
    const bool named = engine_->getNbIOTensors() == 2 &&
                       engine_->getTensorIOMode(input_.c_str()) == nvinfer1::TensorIOMode::kINPUT &&
                       engine_->getTensorIOMode(output_.c_str()) == nvinfer1::TensorIOMode::kOUTPUT;
    if (!named) throw EngineError(path + " has other tensors than its sidecar says; build the plan again");
    for (const auto& tensor : {input_, output_})
      if (engine_->getTensorDataType(tensor.c_str()) != DataType::kFLOAT)
        throw EngineError(path + " does not take and give float32 (" + tensor + "); build it with 'htr-export trt'");
  }

  void find_profiles() {
    using nvinfer1::OptProfileSelector;
    const Shape shape = shape_of(engine_->getTensorShape(input_.c_str()));
    if (std::find(shape.begin(), shape.end(), -1) == shape.end()) {
      profiles_ = {{shape, shape, shape}};
      return;
    }
    for (int index = 0; index < engine_->getNbOptimizationProfiles(); ++index) {
      const auto at = [&](OptProfileSelector select) {
        return shape_of(engine_->getProfileShape(input_.c_str(), index, select));
      };
      profiles_.push_back({at(OptProfileSelector::kMIN), at(OptProfileSelector::kOPT), at(OptProfileSelector::kMAX)});
    }
  }

  Logits run(const SubBatch& part, const float* images) {
    Slot& slot = slot_of(part);
    if (!slot.graph) bind(slot, part);  // the context of a captured graph must stay as it is
    const auto made = slot.context->getTensorShape(output_.c_str());
    if (made.nbDims != 3) throw EngineError("the plan does not give logits [N,T,C]; build it with 'htr-export trt'");
    const std::size_t line = static_cast<std::size_t>(part.shape[2]) * part.shape[3];
    const std::size_t given = line * part.shape[0], result = static_cast<std::size_t>(made.d[1] * made.d[2]);
    std::copy_n(images, line * part.lines, in_.host);
    std::fill(in_.host + line * part.lines, in_.host + given, 1.0F);
    if (!slot.graph && slot.runs && !captures_itself) capture(slot, given, result * part.shape[0]);
    if (slot.graph) check(cudaGraphLaunch(slot.graph, stream_.handle), "cudaGraphLaunch");
    else enqueue(slot, given, result * part.shape[0]);
    stream_.wait();
    ++slot.runs;
    return {part.lines, static_cast<int>(made.d[1]), static_cast<int>(made.d[2]),
            std::vector<float>(out_.host, out_.host + result * part.lines)};
  }

  // Of TensorRT a context for each shape, as NVIDIA asks for where graphs are captured; of TensorRT-RTX for each profile.
  Slot& slot_of(const SubBatch& part) {
    const auto found = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& slot) {
      return slot.key.profile == part.profile && (captures_itself || slot.key.shape == part.shape);
    });
    if (found != slots_.end()) {
      slots_.splice(slots_.begin(), slots_, found);
      return slots_.front();
    }
    if (slots_.size() == max_contexts) slots_.pop_back();
    slots_.emplace_front();
    Slot& slot = slots_.front();
    slot.key = part;
    slot.context = new_context();
    if (!slot.context) {
      slots_.pop_front();
      throw EngineError("TensorRT cannot prepare another shape (" + logger.last() + "); give smaller batches");
    }
    must(slot.context->setOptimizationProfileAsync(part.profile, stream_.handle), "profile " + std::to_string(part.profile));
    stream_.wait();
    return slot;
  }

  std::unique_ptr<nvinfer1::IExecutionContext> new_context() {
#ifdef HTR_RTX
    const std::unique_ptr<nvinfer1::IRuntimeConfig> config(engine_->createRuntimeConfig());
    must(config && config->setCudaGraphStrategy(nvinfer1::CudaGraphStrategy::kWHOLE_GRAPH_CAPTURE), "CUDA graphs");
    return std::unique_ptr<nvinfer1::IExecutionContext>(engine_->createExecutionContext(config.get()));
#else
    // Only one context runs at a time, so all work in the same memory.
    using nvinfer1::ExecutionContextAllocationStrategy;
    std::unique_ptr<nvinfer1::IExecutionContext> context(
        engine_->createExecutionContext(ExecutionContextAllocationStrategy::kUSER_MANAGED));
    if (context) context->setDeviceMemoryV2(memory_, memory_size_);
    return context;
#endif
  }

  void bind(Slot& slot, const SubBatch& part) {
    must(slot.context->setInputShape(input_.c_str(), dims_of(part.shape)), "a shape");
    const auto made = slot.context->getTensorShape(output_.c_str());
    std::size_t given = 1, result = 1;
    for (std::int64_t axis : part.shape) given *= static_cast<std::size_t>(axis);
    for (int axis = 0; axis < made.nbDims; ++axis) result *= static_cast<std::size_t>(made.d[axis]);
    if (!in_.holds(given) || !out_.holds(result)) {
      for (auto& other : slots_) other.drop_graph();  // they hold the addresses
      in_.grow(given);
      out_.grow(result);
    }
    must(slot.context->setTensorAddress(input_.c_str(), in_.device), "the buffer of " + input_);
    must(slot.context->setTensorAddress(output_.c_str(), out_.device), "the buffer of " + output_);
  }

  void enqueue(Slot& slot, std::size_t given, std::size_t made) {
    check(cudaMemcpyAsync(in_.device, in_.host, given * sizeof(float), cudaMemcpyHostToDevice, stream_.handle), "cudaMemcpyAsync");
    must(slot.context->enqueueV3(stream_.handle), "to run");
    check(cudaMemcpyAsync(out_.host, out_.device, made * sizeof(float), cudaMemcpyDeviceToHost, stream_.handle), "cudaMemcpyAsync");
  }

  // Captures a graph, on the second run of a shape as TensorRT asks; without one all goes on, only slower.
  void capture(Slot& slot, std::size_t given, std::size_t made) {
    cudaGraph_t graph = nullptr;
    if (cudaStreamBeginCapture(stream_.handle, cudaStreamCaptureModeThreadLocal) != cudaSuccess) return;
    try {
      enqueue(slot, given, made);
    } catch (const EngineError&) {  // the stream says so too
    }
    if (cudaStreamEndCapture(stream_.handle, &graph) == cudaSuccess && graph)
      if (cudaGraphInstantiateWithFlags(&slot.graph, graph, 0) != cudaSuccess) slot.graph = nullptr;
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
  }

  std::unique_ptr<nvinfer1::IRuntime> runtime_;  // has to outlive the engine
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::string input_, output_;
  std::vector<Profile> profiles_;
  void* memory_ = nullptr;
  std::int64_t memory_size_ = 0;
  Stream stream_;
  Buffer in_, out_;
  std::list<Slot> slots_;  // the latest first
};

}  // namespace
}  // namespace htr

extern "C" __attribute__((visibility("default"))) htr::Engine* htr_open_backend(htr::ModelFile model,
                                                                                 const std::string& engine, int) {
  auto* opened = new htr::TensorRtEngine(model);
  opened->name = engine;
  return opened;
}

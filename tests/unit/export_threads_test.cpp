// export_threads_test.cpp - lets ThreadSanitizer see librdkafka's threads and locks.
// SPDX-License-Identifier: Apache-2.0
//
// librdkafka uses C11 threads, which gcc 12's and clang 14's ThreadSanitizer do not know: a thread
// that it did not see start crashes it. glibc's C11 types are its pthread types under another name
// (nptl/thrd_create.c, mtx_lock.c, cnd_wait.c), so here they are called by the name it knows.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GOPHER_TSAN 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define GOPHER_TSAN 1
#endif

#ifdef GOPHER_TSAN
#include <pthread.h>
#include <threads.h>

#include <cerrno>
#include <cstdint>
#include <memory>

namespace {

int c11(int error) {
  return error == 0           ? thrd_success
         : error == EBUSY     ? thrd_busy
         : error == ETIMEDOUT ? thrd_timedout
                              : thrd_error;
}
pthread_mutex_t* p(mtx_t* m) { return reinterpret_cast<pthread_mutex_t*>(m); }
pthread_cond_t* p(cnd_t* c) { return reinterpret_cast<pthread_cond_t*>(c); }

struct Start {
  thrd_start_t function;
  void* argument;
};
void* run(void* raw) {
  std::unique_ptr<Start> start(static_cast<Start*>(raw));
  return reinterpret_cast<void*>(static_cast<intptr_t>(start->function(start->argument)));
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {
int thrd_create(thrd_t* thread, thrd_start_t function, void* argument) {
  auto start = std::make_unique<Start>(Start{function, argument});
  const int error = pthread_create(thread, nullptr, run, start.get());
  if (error == 0) start.release();
  return c11(error);
}
int thrd_join(thrd_t thread, int* result) {
  void* value = nullptr;
  const int error = pthread_join(thread, &value);
  if (result) *result = static_cast<int>(reinterpret_cast<intptr_t>(value));
  return c11(error);
}
int thrd_detach(thrd_t thread) { return c11(pthread_detach(thread)); }
int mtx_init(mtx_t* m, int type) {
  pthread_mutexattr_t attribute;
  pthread_mutexattr_init(&attribute);
  if (type & mtx_recursive) pthread_mutexattr_settype(&attribute, PTHREAD_MUTEX_RECURSIVE);
  const int error = pthread_mutex_init(p(m), &attribute);
  pthread_mutexattr_destroy(&attribute);
  return c11(error);
}
void mtx_destroy(mtx_t* m) { pthread_mutex_destroy(p(m)); }
int mtx_lock(mtx_t* m) { return c11(pthread_mutex_lock(p(m))); }
int mtx_trylock(mtx_t* m) { return c11(pthread_mutex_trylock(p(m))); }
int mtx_unlock(mtx_t* m) { return c11(pthread_mutex_unlock(p(m))); }
int cnd_init(cnd_t* c) { return c11(pthread_cond_init(p(c), nullptr)); }
void cnd_destroy(cnd_t* c) { pthread_cond_destroy(p(c)); }
int cnd_signal(cnd_t* c) { return c11(pthread_cond_signal(p(c))); }
int cnd_broadcast(cnd_t* c) { return c11(pthread_cond_broadcast(p(c))); }
int cnd_wait(cnd_t* c, mtx_t* m) { return c11(pthread_cond_wait(p(c), p(m))); }
int cnd_timedwait(cnd_t* c, mtx_t* m, const timespec* until) {
  return c11(pthread_cond_timedwait(p(c), p(m), until));
}

// What goes on inside of the library: its reference counts are atomics that are not instrumented.
const char* __tsan_default_suppressions() { return "race:librdkafka.so\n"; }
}
#pragma GCC visibility pop
#endif

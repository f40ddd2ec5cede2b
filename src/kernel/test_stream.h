/* SPDX-License-Identifier: (GPL-2.0 OR Apache-2.0) */
/*
 * The stream of the test device's state, made and taken in (test_device.h says what it is). Pure: bytes in, bytes out. The
 * kernel module and the in-process model both use it, so that they cannot differ in it.
 *
 * Memory is bounded whatever is in a stream: ballast is computed, never kept. Not synchronised: callers hold a lock.
 */
#ifndef TIDEMARK_KERNEL_TEST_STREAM_H
#define TIDEMARK_KERNEL_TEST_STREAM_H

#include "test_device.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

#define TIDEMARK_TEST_HEAD_BYTES ((__u64)sizeof(struct tidemark_test_section))
#define TIDEMARK_TEST_STATE_BYTES ((__u64)sizeof(struct tidemark_test_state))

/* ---- saving: all zero but for `ballast` and `now` at first ---- */

struct tidemark_test_saving {
  __u64 ballast;                     /* bytes of it */
  struct tidemark_test_state now;    /* the device's, kept up to date by whoever has this */
  struct tidemark_test_state told;   /* what the last STATE says */
  struct tidemark_test_section head; /* of the section being read */
  __u64 position;                    /* bytes of that section that were read, its head included */
  __u64 left;                        /* and those that were not */
  __u32 stopped;                     /* in STOP_COPY: nothing will change any more */
  __u32 ballast_begun;
  __u32 states_begun; /* saturates at 2 */
  __u32 ended;        /* END has begun */
};

static inline int tidemark_test_changed(const struct tidemark_test_saving* s) {
  return s->now.doorbells != s->told.doorbells || s->now.bytes != s->told.bytes;
}

static inline void tidemark_test_begin(struct tidemark_test_saving* s, __u32 kind, __u64 length) {
  s->head.magic = TIDEMARK_TEST_MIGRATION_MAGIC;
  s->head.kind = kind;
  s->head.length = (__u32)length;
  s->position = 0;
  s->left = TIDEMARK_TEST_HEAD_BYTES + length;
}

/* Begins the next section when the last was read whole. 0: there is nothing to read. */
static inline int tidemark_test_next(struct tidemark_test_saving* s) {
  if (s->left) return 1;
  if (!s->ballast_begun && s->ballast) {
    s->ballast_begun = 1;
    tidemark_test_begin(s, TIDEMARK_TEST_SECTION_BALLAST, s->ballast);
  } else if (!s->states_begun || tidemark_test_changed(s)) {
    s->states_begun = s->states_begun ? 2 : 1;
    s->told = s->now;
    tidemark_test_begin(s, TIDEMARK_TEST_SECTION_STATE, TIDEMARK_TEST_STATE_BYTES);
  } else if (s->stopped && !s->ended) {
    s->ended = 1;
    tidemark_test_begin(s, TIDEMARK_TEST_SECTION_END, 0);
  }
  return s->left != 0;
}

static inline __u8 tidemark_test_byte(const struct tidemark_test_saving* s) {
  const __u64 at = s->position - TIDEMARK_TEST_HEAD_BYTES;
  if (s->position < TIDEMARK_TEST_HEAD_BYTES) return ((const __u8*)&s->head)[s->position];
  if (s->head.kind == TIDEMARK_TEST_SECTION_BALLAST) return tidemark_test_ballast(at);
  return ((const __u8*)&s->told)[at];
}

/* The next bytes, at most `room`; how many. */
static inline __u64 tidemark_test_save(struct tidemark_test_saving* s, __u8* to, __u64 room) {
  __u64 done;
  for (done = 0; done < room && tidemark_test_next(s); done++) {
    to[done] = tidemark_test_byte(s);
    s->position++;
    s->left--;
  }
  return done;
}

/* What VFIO_MIG_GET_PRECOPY_INFO tells. */
static inline __u64 tidemark_test_initial_bytes(const struct tidemark_test_saving* s) {
  __u64 bytes = s->states_begun < 2 ? s->left : 0;
  if (!s->ballast_begun && s->ballast) bytes += TIDEMARK_TEST_HEAD_BYTES + s->ballast;
  return s->states_begun ? bytes : bytes + TIDEMARK_TEST_HEAD_BYTES + TIDEMARK_TEST_STATE_BYTES;
}

static inline __u64 tidemark_test_dirty_bytes(const struct tidemark_test_saving* s) {
  const __u64 bytes = s->states_begun < 2 ? 0 : s->left;
  return s->states_begun && tidemark_test_changed(s) ? bytes + TIDEMARK_TEST_HEAD_BYTES + TIDEMARK_TEST_STATE_BYTES : bytes;
}

/* What VFIO_DEVICE_FEATURE_MIG_DATA_SIZE tells. */
static inline __u64 tidemark_test_stream_bytes(__u64 ballast) {
  const __u64 bytes = 2 * TIDEMARK_TEST_HEAD_BYTES + TIDEMARK_TEST_STATE_BYTES;
  return ballast ? bytes + TIDEMARK_TEST_HEAD_BYTES + ballast : bytes;
}

/* ---- resuming: all zero but for `ballast` at first ---- */

struct tidemark_test_loading {
  __u64 ballast;                     /* bytes of it that the device has */
  struct tidemark_test_state state;  /* of the last STATE, whole once has_state is set and a section has ended */
  struct tidemark_test_section head; /* of the section being written */
  __u64 position;                    /* bytes of that section that were written, its head included */
  __u32 has_ballast;
  __u32 has_state;
  __u32 ended; /* END is there: the stream is complete */
  __u32 bad;   /* something is wrong in it; what comes is taken, and not looked at */
};

static inline int tidemark_test_head_fits(const struct tidemark_test_loading* l) {
  if (l->head.magic != TIDEMARK_TEST_MIGRATION_MAGIC) return 0;
  if (l->head.kind == TIDEMARK_TEST_SECTION_BALLAST) return l->head.length == l->ballast && !l->has_ballast;
  if (l->head.kind == TIDEMARK_TEST_SECTION_STATE) return l->head.length == TIDEMARK_TEST_STATE_BYTES;
  return l->head.kind == TIDEMARK_TEST_SECTION_END && l->head.length == 0;
}

static inline void tidemark_test_end_section(struct tidemark_test_loading* l) {
  if (l->head.kind == TIDEMARK_TEST_SECTION_BALLAST) l->has_ballast = 1;
  if (l->head.kind == TIDEMARK_TEST_SECTION_STATE) l->has_state = 1;
  if (l->head.kind == TIDEMARK_TEST_SECTION_END) l->ended = 1;
  l->position = 0;
}

static inline void tidemark_test_load_byte(struct tidemark_test_loading* l, __u8 byte) {
  const __u64 at = l->position - TIDEMARK_TEST_HEAD_BYTES;
  if (l->position < TIDEMARK_TEST_HEAD_BYTES)
    ((__u8*)&l->head)[l->position] = byte;
  else if (l->head.kind == TIDEMARK_TEST_SECTION_STATE)
    ((__u8*)&l->state)[at] = byte;
  else if (byte != tidemark_test_ballast(at))
    l->bad = 1;
  l->position++;
  if (l->position == TIDEMARK_TEST_HEAD_BYTES && !tidemark_test_head_fits(l)) l->bad = 1;
  if (!l->bad && l->position >= TIDEMARK_TEST_HEAD_BYTES && l->position == TIDEMARK_TEST_HEAD_BYTES + l->head.length)
    tidemark_test_end_section(l);
}

/* Takes bytes in; how many of `count`: fewer only when the stream is complete. */
static inline __u64 tidemark_test_load(struct tidemark_test_loading* l, const __u8* from, __u64 count) {
  __u64 done;
  for (done = 0; done < count && !l->ended && !l->bad; done++) tidemark_test_load_byte(l, from[done]);
  return l->bad ? count : done;
}

/* Whether the device can go on with what was written. */
static inline int tidemark_test_loaded(const struct tidemark_test_loading* l) {
  return !l->bad && l->ended && l->has_state && (l->has_ballast || !l->ballast);
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif

// SPDX-License-Identifier: GPL-2.0
/*
 * The project's test device; test_device.h says what it does. Written for Linux 6.1, whose VFIO core leaves the states to drivers but
 * for the ways between them, and knows neither PRE_COPY nor MIG_DATA_SIZE: both are done here as the core does it since 6.2.
 *
 * Locks, outermost first: tidemark_device.lock, tidemark_data_file.lock. The first is also held around vfio_dma_rw(), which takes
 * the container's lock. Type1 calls back into a device only through .dma_unmap, without its own lock, and that callback takes none.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/interval_tree.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/vfio.h>
#include <linux/xarray.h>

#include "test_device.h"
#include "test_stream.h"
#include "vfio_newer.h"

#define LOG_PAGE_SHIFT 12

static_assert(1 << LOG_PAGE_SHIFT == TIDEMARK_TEST_LOG_PAGE_BYTES);
static_assert(PAGE_SIZE == TIDEMARK_TEST_LOG_PAGE_BYTES);

/*
 * The stream of one stay in RESUMING, or in PRE_COPY, PRE_COPY_P2P and STOP_COPY. It lives as long as its file, which may be longer
 * than the device is in that state, or open at all.
 */
struct tidemark_data_file {
	struct file *filp;
	struct mutex lock; /* covers all below */
	bool ended; /* the device has left the state */
	struct tidemark_test_saving saving;
	struct tidemark_test_loading loading;
	u8 piece[512]; /* on its way between the stream and user space */
};

struct tidemark_log {
	bool active;
	struct interval_tree_node *nodes; /* the array that holds the ranges */
	struct rb_root_cached ranges;
	struct xarray dirty; /* by page number: set when written */
};

struct tidemark_device {
	struct vfio_device vdev;
	struct mutex lock; /* covers all below */
	enum vfio_device_mig_state mig_state;
	struct tidemark_data_file *data_file; /* in the states that have one */
	struct tidemark_test_state state;
	u32 ballast; /* bytes of it in the migration data */
	struct tidemark_log log;
};

static unsigned int devices = 2;
module_param(devices, uint, 0444);
MODULE_PARM_DESC(devices, "number of test devices, 1 to 16 (default 2)");

static unsigned int ballast = TIDEMARK_TEST_BALLAST_BYTES;
module_param(ballast, uint, 0644);
MODULE_PARM_DESC(ballast, "bytes that make a device's migration data longer, from its next reset on (default 256)");

static struct platform_device *platform_devices[TIDEMARK_TEST_DEVICES_MAX];

static struct tidemark_device *to_tidemark(struct vfio_device *vdev)
{
	return container_of(vdev, struct tidemark_device, vdev);
}

/* ---- migration data ---- */

/* In pieces, each of which counts once it is copied. */
static ssize_t save_pieces(struct tidemark_data_file *file, char __user *buf, size_t count)
{
	struct tidemark_test_saving after;
	size_t done = 0;
	u64 told;

	if (file->ended)
		return -ENODEV;
	while (done < count) {
		after = file->saving;
		told = tidemark_test_save(&after, file->piece, min(count - done, sizeof(file->piece)));
		if (!told && !done && !after.stopped)
			return -ENOMSG;
		if (!told || fatal_signal_pending(current))
			break;
		if (copy_to_user(buf + done, file->piece, told))
			return -EFAULT;
		file->saving = after;
		done += told;
	}
	return done;
}

static ssize_t data_file_read(struct file *filp, char __user *buf, size_t count, loff_t *pos)
{
	struct tidemark_data_file *file = filp->private_data;
	ssize_t ret;

	mutex_lock(&file->lock);
	ret = save_pieces(file, buf, count);
	mutex_unlock(&file->lock);
	return ret;
}

static ssize_t load_pieces(struct tidemark_data_file *file, const char __user *buf, size_t count)
{
	size_t done = 0, given;
	u64 taken;

	if (file->ended)
		return -ENODEV;
	while (done < count) {
		given = min(count - done, sizeof(file->piece));
		if (copy_from_user(file->piece, buf + done, given))
			return -EFAULT;
		taken = tidemark_test_load(&file->loading, file->piece, given);
		if (!taken && !done)
			return -ENOSPC;
		if (!taken || fatal_signal_pending(current))
			break;
		done += taken;
	}
	return done;
}

static ssize_t data_file_write(struct file *filp, const char __user *buf, size_t count, loff_t *pos)
{
	struct tidemark_data_file *file = filp->private_data;
	ssize_t ret;

	mutex_lock(&file->lock);
	ret = load_pieces(file, buf, count);
	mutex_unlock(&file->lock);
	return ret;
}

static long data_file_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	const size_t minsz = offsetofend(struct vfio_precopy_info, dirty_bytes);
	struct tidemark_data_file *file = filp->private_data;
	struct vfio_precopy_info info;
	bool valid;

	if (cmd != VFIO_MIG_GET_PRECOPY_INFO)
		return -ENOTTY;
	if (copy_from_user(&info, (void __user *)arg, minsz))
		return -EFAULT;
	mutex_lock(&file->lock);
	valid = info.argsz >= minsz && !file->ended && !file->saving.stopped;
	info.flags = 0;
	info.initial_bytes = tidemark_test_initial_bytes(&file->saving);
	info.dirty_bytes = tidemark_test_dirty_bytes(&file->saving);
	mutex_unlock(&file->lock);
	if (!valid)
		return -EINVAL;
	return copy_to_user((void __user *)arg, &info, minsz) ? -EFAULT : 0;
}

static int data_file_release(struct inode *inode, struct file *filp)
{
	struct tidemark_data_file *file = filp->private_data;

	mutex_destroy(&file->lock);
	kfree(file);
	return 0;
}

static const struct file_operations save_fops = {
	.owner = THIS_MODULE,
	.read = data_file_read,
	.unlocked_ioctl = data_file_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = data_file_release,
	.llseek = no_llseek,
};

static const struct file_operations resume_fops = {
	.owner = THIS_MODULE,
	.write = data_file_write,
	.release = data_file_release,
	.llseek = no_llseek,
};

/* Makes the file and gives the device a reference of its own besides the returned one. */
static struct file *open_data_file(struct tidemark_device *device, const struct file_operations *fops, int flags)
{
	struct tidemark_data_file *file = kzalloc(sizeof(*file), GFP_KERNEL_ACCOUNT);
	struct file *filp;

	if (!file)
		return ERR_PTR(-ENOMEM);
	mutex_init(&file->lock);
	filp = anon_inode_getfile("tidemark_test_migration", fops, file, flags);
	if (IS_ERR(filp)) {
		mutex_destroy(&file->lock);
		kfree(file);
		return filp;
	}
	stream_open(filp->f_inode, filp);
	file->filp = filp;
	get_file(filp);
	device->data_file = file;
	return filp;
}

/* No read or write on the file runs, or finds data, after this. */
static void end_data_file(struct tidemark_device *device)
{
	struct tidemark_data_file *file = device->data_file;

	if (!file)
		return;
	device->data_file = NULL;
	mutex_lock(&file->lock);
	file->ended = true;
	mutex_unlock(&file->lock);
	fput(file->filp);
}

static bool saves(enum vfio_device_mig_state state)
{
	return state == VFIO_DEVICE_STATE_STOP_COPY || state == VFIO_DEVICE_STATE_PRE_COPY ||
	       state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

static struct file *start_save(struct tidemark_device *device, enum vfio_device_mig_state next)
{
	struct file *filp = open_data_file(device, &save_fops, O_RDONLY);

	if (IS_ERR(filp))
		return filp;
	device->data_file->saving.ballast = device->ballast;
	device->data_file->saving.now = device->state;
	device->data_file->saving.stopped = next == VFIO_DEVICE_STATE_STOP_COPY;
	return filp;
}

static struct file *start_resume(struct tidemark_device *device)
{
	struct file *filp = open_data_file(device, &resume_fops, O_WRONLY);

	if (!IS_ERR(filp))
		device->data_file->loading.ballast = device->ballast;
	return filp;
}

/* Takes over the state that was written, if it is one, and ends the file; else changes nothing. */
static int finish_resume(struct tidemark_device *device)
{
	struct tidemark_data_file *file = device->data_file;
	bool complete;

	mutex_lock(&file->lock);
	complete = tidemark_test_loaded(&file->loading);
	if (complete)
		device->state = file->loading.state;
	mutex_unlock(&file->lock);
	if (!complete)
		return -EINVAL;
	end_data_file(device);
	return 0;
}

/* Between the states that share a file: it goes on. */
static void go_on_saving(struct tidemark_device *device, enum vfio_device_mig_state next)
{
	mutex_lock(&device->data_file->lock);
	device->data_file->saving.stopped = next == VFIO_DEVICE_STATE_STOP_COPY;
	mutex_unlock(&device->data_file->lock);
}

/* The device was used: what its file has told of it is old. */
static void note_use(struct tidemark_device *device)
{
	if (!device->data_file)
		return;
	mutex_lock(&device->data_file->lock);
	device->data_file->saving.now = device->state;
	mutex_unlock(&device->data_file->lock);
}

/*
 * vfio_mig_get_next_state() with the arcs of PRE_COPY and PRE_COPY_P2P. The device has all optional states, so none is passed
 * over.
 */
static int next_state(struct vfio_device *vdev, enum vfio_device_mig_state from, enum vfio_device_mig_state to,
		      enum vfio_device_mig_state *next)
{
	const bool pre_copy = to == VFIO_DEVICE_STATE_PRE_COPY, pre_copy_p2p = to == VFIO_DEVICE_STATE_PRE_COPY_P2P;

	if (to > VFIO_DEVICE_STATE_PRE_COPY_P2P || to == VFIO_DEVICE_STATE_ERROR)
		return -EINVAL;
	if (from == VFIO_DEVICE_STATE_PRE_COPY)
		*next = pre_copy_p2p || to == VFIO_DEVICE_STATE_STOP_COPY ? VFIO_DEVICE_STATE_PRE_COPY_P2P :
									    VFIO_DEVICE_STATE_RUNNING;
	else if (from == VFIO_DEVICE_STATE_PRE_COPY_P2P)
		*next = pre_copy || to == VFIO_DEVICE_STATE_STOP_COPY ? to : VFIO_DEVICE_STATE_RUNNING_P2P;
	else if (!pre_copy && !pre_copy_p2p)
		return vfio_mig_get_next_state(vdev, from, to, next);
	else if (from == VFIO_DEVICE_STATE_RUNNING)
		*next = pre_copy ? VFIO_DEVICE_STATE_PRE_COPY : VFIO_DEVICE_STATE_RUNNING_P2P;
	else if (from == VFIO_DEVICE_STATE_RUNNING_P2P)
		*next = pre_copy ? VFIO_DEVICE_STATE_RUNNING : VFIO_DEVICE_STATE_PRE_COPY_P2P;
	else if (from == VFIO_DEVICE_STATE_STOP)
		*next = VFIO_DEVICE_STATE_RUNNING_P2P;
	else if (from == VFIO_DEVICE_STATE_RESUMING)
		*next = VFIO_DEVICE_STATE_STOP;
	else
		return -EINVAL; /* STOP_COPY to a state before it would tell what was told already */
	return 0;
}

/* One arc of the state machine; next_state() has made sure that it is one. */
static struct file *step_state(struct tidemark_device *device, enum vfio_device_mig_state next)
{
	if (saves(device->mig_state) && saves(next)) {
		go_on_saving(device, next);
		return NULL;
	}
	if (saves(device->mig_state))
		end_data_file(device);
	if (device->mig_state == VFIO_DEVICE_STATE_RESUMING)
		return ERR_PTR(finish_resume(device));
	if (saves(next))
		return start_save(device, next);
	if (next == VFIO_DEVICE_STATE_RESUMING)
		return start_resume(device);
	/* Between STOP, RUNNING_P2P and RUNNING the state itself is all: doorbells look at it. */
	return NULL;
}

static struct file *tidemark_set_state(struct vfio_device *vdev, enum vfio_device_mig_state new_state)
{
	struct tidemark_device *device = to_tidemark(vdev);
	enum vfio_device_mig_state next;
	struct file *filp = NULL;
	int ret;

	mutex_lock(&device->lock);
	while (device->mig_state != new_state) {
		ret = next_state(vdev, device->mig_state, new_state, &next);
		if (ret) {
			filp = ERR_PTR(ret);
			break;
		}
		filp = step_state(device, next);
		if (IS_ERR(filp))
			break;
		device->mig_state = next;
	}
	mutex_unlock(&device->lock);
	return filp;
}

static int tidemark_get_state(struct vfio_device *vdev, enum vfio_device_mig_state *state)
{
	struct tidemark_device *device = to_tidemark(vdev);

	mutex_lock(&device->lock);
	*state = device->mig_state;
	mutex_unlock(&device->lock);
	return 0;
}

static const struct vfio_migration_ops migration_ops = {
	.migration_set_state = tidemark_set_state,
	.migration_get_state = tidemark_get_state,
};

static int tidemark_feature(struct vfio_device *vdev, u32 flags, void __user *arg, size_t argsz)
{
	struct tidemark_device *device = to_tidemark(vdev);
	struct vfio_device_feature_mig_data_size size = {};
	int ret;

	if ((flags & VFIO_DEVICE_FEATURE_MASK) != VFIO_DEVICE_FEATURE_MIG_DATA_SIZE)
		return -ENOTTY;
	ret = vfio_check_feature(flags, argsz, VFIO_DEVICE_FEATURE_GET, sizeof(size));
	if (ret != 1)
		return ret;
	mutex_lock(&device->lock);
	size.stop_copy_length = tidemark_test_stream_bytes(device->ballast);
	mutex_unlock(&device->lock);
	return copy_to_user(arg, &size, sizeof(size)) ? -EFAULT : 0;
}

/* ---- DMA logging ---- */

static void stop_log(struct tidemark_log *log)
{
	log->active = false;
	log->ranges = RB_ROOT_CACHED;
	kvfree(log->nodes);
	log->nodes = NULL;
	xa_destroy(&log->dirty);
}

/* The caller's nodes are gone after the call, so the ranges are copied. */
static int copy_ranges(struct tidemark_log *log, struct rb_root_cached *ranges, u32 count)
{
	struct interval_tree_node *from, *to;

	log->nodes = kvcalloc(count, sizeof(*log->nodes), GFP_KERNEL_ACCOUNT);
	if (!log->nodes)
		return -ENOMEM;
	to = log->nodes;
	for (from = interval_tree_iter_first(ranges, 0, ULONG_MAX); from;
	     from = interval_tree_iter_next(from, 0, ULONG_MAX)) {
		to->start = from->start;
		to->last = from->last;
		interval_tree_insert(to, &log->ranges);
		to++;
	}
	return 0;
}

static int tidemark_log_start(struct vfio_device *vdev, struct rb_root_cached *ranges, u32 count, u64 *page_size)
{
	struct tidemark_device *device = to_tidemark(vdev);
	int ret = -EINVAL;

	mutex_lock(&device->lock);
	if (device->log.active)
		goto unlock;
	ret = copy_ranges(&device->log, ranges, count);
	if (ret)
		goto unlock;
	device->log.active = true;
	*page_size = TIDEMARK_TEST_LOG_PAGE_BYTES;
unlock:
	mutex_unlock(&device->lock);
	return ret;
}

static int tidemark_log_stop(struct vfio_device *vdev)
{
	struct tidemark_device *device = to_tidemark(vdev);

	mutex_lock(&device->lock);
	stop_log(&device->log);
	mutex_unlock(&device->lock);
	return 0;
}

static int tidemark_log_read_and_clear(struct vfio_device *vdev, unsigned long iova, unsigned long length,
				       struct iova_bitmap *bitmap)
{
	struct tidemark_device *device = to_tidemark(vdev);
	unsigned long page;
	void *entry;
	int ret = 0;

	/* A page that is only partly asked for could be neither forgotten nor kept without telling a lie. */
	if (!IS_ALIGNED(iova | length, TIDEMARK_TEST_LOG_PAGE_BYTES))
		return -EINVAL;
	mutex_lock(&device->lock);
	if (!device->log.active) {
		ret = -EINVAL;
		goto unlock;
	}
	xa_for_each_range(&device->log.dirty, page, entry, iova >> LOG_PAGE_SHIFT,
			  (iova + length - 1) >> LOG_PAGE_SHIFT) {
		iova_bitmap_set(bitmap, page << LOG_PAGE_SHIFT, TIDEMARK_TEST_LOG_PAGE_BYTES);
		xa_erase(&device->log.dirty, page);
	}
unlock:
	mutex_unlock(&device->lock);
	return ret;
}

static const struct vfio_log_ops log_ops = {
	.log_start = tidemark_log_start,
	.log_stop = tidemark_log_stop,
	.log_read_and_clear = tidemark_log_read_and_clear,
};

/* Marks the page of a write within one page. Returns 1 if that is news, 0 if not or if the place is not logged, else an errno. */
static int log_write(struct tidemark_log *log, unsigned long iova, size_t length)
{
	int ret;

	if (!log->active || !interval_tree_iter_first(&log->ranges, iova, iova + length - 1))
		return 0;
	ret = xa_insert(&log->dirty, iova >> LOG_PAGE_SHIFT, xa_mk_value(1), GFP_KERNEL_ACCOUNT);
	if (ret == -EBUSY)
		return 0;
	return ret ? ret : 1;
}

/* ---- doorbells ---- */

/* Writes within one page. It is marked before it is written: if there is no memory for the mark, there must be no write. */
static int write_within_page(struct tidemark_device *device, unsigned long iova, void *data, size_t length)
{
	int marked = log_write(&device->log, iova, length);
	int ret;

	if (marked < 0)
		return marked;
	ret = vfio_dma_rw(&device->vdev, iova, data, length, true);
	if (ret < 0 && marked)
		xa_erase(&device->log.dirty, iova >> LOG_PAGE_SHIFT);
	return min(ret, 0);
}

/*
 * Page by page, so that the log holds just what was written when a page in the middle fails. The pattern has eight bytes more than
 * a page: a page's part may start at any byte of the value.
 */
static int write_pattern(struct tidemark_device *device, const struct tidemark_test_doorbell *bell, __le64 *pattern)
{
	u64 done = 0;
	size_t length, i;
	int ret;

	for (i = 0; i <= PAGE_SIZE / sizeof(*pattern); i++)
		pattern[i] = cpu_to_le64(bell->value);
	while (done < bell->length) {
		if (fatal_signal_pending(current))
			return -EINTR;
		length = min_t(u64, bell->length - done, PAGE_SIZE - offset_in_page(bell->iova + done));
		ret = write_within_page(device, bell->iova + done, (u8 *)pattern + done % sizeof(*pattern), length);
		if (ret)
			return ret;
		done += length;
	}
	return 0;
}

static bool doorbell_valid(const struct tidemark_test_doorbell *bell)
{
	u64 last;

	return bell->length && IS_ALIGNED(bell->length, sizeof(bell->value)) &&
	       bell->length <= TIDEMARK_TEST_DOORBELL_BYTES_MAX && !check_add_overflow(bell->iova, bell->length - 1, &last);
}

static int ring_doorbell(struct tidemark_device *device, const struct tidemark_test_doorbell *bell, __le64 *pattern)
{
	int ret;

	if (!doorbell_valid(bell))
		return -EINVAL;
	mutex_lock(&device->lock);
	if (device->mig_state == VFIO_DEVICE_STATE_RUNNING || device->mig_state == VFIO_DEVICE_STATE_PRE_COPY)
		ret = write_pattern(device, bell, pattern);
	else
		ret = -EBUSY;
	if (!ret) {
		device->state.doorbells++;
		device->state.bytes += bell->length;
		note_use(device);
	}
	mutex_unlock(&device->lock);
	return ret;
}

static ssize_t tidemark_write(struct vfio_device *vdev, const char __user *buf, size_t count, loff_t *ppos)
{
	struct tidemark_test_doorbell bell;
	size_t done = 0;
	__le64 *pattern;
	int ret = 0;

	if (!count || count % sizeof(bell))
		return -EINVAL;
	pattern = kmalloc(PAGE_SIZE + sizeof(*pattern), GFP_KERNEL_ACCOUNT);
	if (!pattern)
		return -ENOMEM;
	while (done < count) {
		ret = -EFAULT;
		if (!copy_from_user(&bell, buf + done, sizeof(bell)))
			ret = ring_doorbell(to_tidemark(vdev), &bell, pattern);
		if (ret)
			break;
		done += sizeof(bell);
		cond_resched();
	}
	kfree(pattern);
	return done ? (ssize_t)done : ret;
}

static ssize_t tidemark_read(struct vfio_device *vdev, char __user *buf, size_t count, loff_t *ppos)
{
	struct tidemark_device *device = to_tidemark(vdev);
	struct tidemark_test_state state;

	if (count < sizeof(state))
		return -EINVAL;
	mutex_lock(&device->lock);
	state = device->state;
	mutex_unlock(&device->lock);
	return copy_to_user(buf, &state, sizeof(state)) ? -EFAULT : sizeof(state);
}

/* ---- the device ---- */

static void quiesce(struct tidemark_device *device)
{
	lockdep_assert_held(&device->lock);
	end_data_file(device);
	stop_log(&device->log);
}

static void reset(struct tidemark_device *device)
{
	mutex_lock(&device->lock);
	quiesce(device);
	device->mig_state = VFIO_DEVICE_STATE_RUNNING;
	memset(&device->state, 0, sizeof(device->state));
	device->ballast = READ_ONCE(ballast);
	mutex_unlock(&device->lock);
}

static int tidemark_open(struct vfio_device *vdev)
{
	reset(to_tidemark(vdev));
	return 0;
}

static void tidemark_close(struct vfio_device *vdev)
{
	struct tidemark_device *device = to_tidemark(vdev);

	mutex_lock(&device->lock);
	quiesce(device);
	mutex_unlock(&device->lock);
}

static long get_info(void __user *arg)
{
	const size_t minsz = offsetofend(struct vfio_device_info, num_irqs);
	struct vfio_device_info info = {};

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;
	info.flags = VFIO_DEVICE_FLAGS_RESET;
	info.num_regions = 0;
	info.num_irqs = 0;
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static long tidemark_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return get_info((void __user *)arg);
	case VFIO_DEVICE_RESET:
		reset(to_tidemark(vdev));
		return 0;
	case VFIO_DEVICE_GET_REGION_INFO:
	case VFIO_DEVICE_GET_IRQ_INFO:
	case VFIO_DEVICE_SET_IRQS:
		return -EINVAL;
	default:
		return -ENOTTY;
	}
}

/* VFIO wants to be able to take pinned pages back. This device pins none. */
static void tidemark_dma_unmap(struct vfio_device *vdev, u64 iova, u64 length)
{
}

static int tidemark_init(struct vfio_device *vdev)
{
	struct tidemark_device *device = to_tidemark(vdev);

	mutex_init(&device->lock);
	device->mig_state = VFIO_DEVICE_STATE_RUNNING;
	device->log.ranges = RB_ROOT_CACHED;
	xa_init(&device->log.dirty);
	vdev->migration_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY;
	vdev->mig_ops = &migration_ops;
	vdev->log_ops = &log_ops;
	return 0;
}

static void tidemark_release(struct vfio_device *vdev)
{
	mutex_destroy(&to_tidemark(vdev)->lock);
	vfio_free_device(vdev);
}

static const struct vfio_device_ops device_ops = {
	.name = TIDEMARK_TEST_DEVICE_NAME,
	.init = tidemark_init,
	.release = tidemark_release,
	.open_device = tidemark_open,
	.close_device = tidemark_close,
	.read = tidemark_read,
	.write = tidemark_write,
	.ioctl = tidemark_ioctl,
	.device_feature = tidemark_feature,
	.dma_unmap = tidemark_dma_unmap,
};

static int tidemark_probe(struct platform_device *pdev)
{
	struct tidemark_device *device;
	int ret;

	device = vfio_alloc_device(tidemark_device, vdev, &pdev->dev, &device_ops);
	if (IS_ERR(device))
		return PTR_ERR(device);
	ret = vfio_register_emulated_iommu_dev(&device->vdev);
	if (ret) {
		vfio_put_device(&device->vdev);
		return ret;
	}
	platform_set_drvdata(pdev, device);
	return 0;
}

static int tidemark_remove(struct platform_device *pdev)
{
	struct tidemark_device *device = platform_get_drvdata(pdev);

	vfio_unregister_group_dev(&device->vdev);
	vfio_put_device(&device->vdev);
	return 0;
}

/* VFIO looks at the driver of the device's parent, so a platform device without a driver would not do. */
static struct platform_driver driver = {
	.probe = tidemark_probe,
	.remove = tidemark_remove,
	.driver = { .name = TIDEMARK_TEST_DEVICE_NAME },
};

static void unregister_devices(unsigned int count)
{
	while (count--)
		platform_device_unregister(platform_devices[count]);
}

static int register_devices(void)
{
	struct platform_device *pdev;
	unsigned int i;

	for (i = 0; i < devices; i++) {
		pdev = platform_device_register_simple(TIDEMARK_TEST_DEVICE_NAME, i, NULL, 0);
		if (IS_ERR(pdev)) {
			unregister_devices(i);
			return PTR_ERR(pdev);
		}
		platform_devices[i] = pdev;
		if (!platform_get_drvdata(pdev)) {
			unregister_devices(i + 1);
			return -ENODEV;
		}
	}
	return 0;
}

static int __init tidemark_module_init(void)
{
	int ret;

	if (!devices || devices > TIDEMARK_TEST_DEVICES_MAX) {
		pr_err("devices=%u: must be 1 to %u\n", devices, TIDEMARK_TEST_DEVICES_MAX);
		return -EINVAL;
	}
	ret = platform_driver_register(&driver);
	if (ret)
		return ret;
	ret = register_devices();
	if (ret)
		platform_driver_unregister(&driver);
	return ret;
}

static void __exit tidemark_module_exit(void)
{
	unregister_devices(devices);
	platform_driver_unregister(&driver);
}

module_init(tidemark_module_init);
module_exit(tidemark_module_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The Tidemark project");
MODULE_DESCRIPTION("A VFIO device for tests: writes on demand, logs its writes, migrates");

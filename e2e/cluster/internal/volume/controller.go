package volume

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// Controller makes and removes the volumes of one node.
type Controller struct {
	client      kubernetes.Interface
	provisioner string
	node        string
	dir         string

	factory  informers.SharedInformerFactory
	claims   corelisters.PersistentVolumeClaimLister
	volumes  corelisters.PersistentVolumeLister
	classes  storagelisters.StorageClassLister
	queue    workqueue.TypedRateLimitingInterface[item]
	recorder record.EventRecorder
}

// item is a claim or, without a namespace, a volume.
type item struct{ namespace, name string }

// retryLimits keep a claim that cannot be served from being tried more than twice a minute.
var retryLimits = struct{ first, last time.Duration }{100 * time.Millisecond, 30 * time.Second}

// New returns the controller of a node's volumes, which lie in dir.
func New(client kubernetes.Interface, provisioner, node, dir string) *Controller {
	factory := informers.NewSharedInformerFactory(client, 0)
	c := &Controller{
		client: client, provisioner: provisioner, node: node, dir: dir,
		factory: factory,
		claims:  factory.Core().V1().PersistentVolumeClaims().Lister(),
		volumes: factory.Core().V1().PersistentVolumes().Lister(),
		classes: factory.Storage().V1().StorageClasses().Lister(),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[item](retryLimits.first, retryLimits.last)),
	}
	enqueue := func(object any) {
		if tombstone, gone := object.(cache.DeletedFinalStateUnknown); gone {
			object = tombstone.Obj
		}
		if named, ok := object.(meta.Object); ok {
			c.queue.Add(item{named.GetNamespace(), named.GetName()})
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    enqueue,
		UpdateFunc: func(_, object any) { enqueue(object) },
	}
	// Registration fails only on an informer that has been stopped.
	_, _ = factory.Core().V1().PersistentVolumeClaims().Informer().AddEventHandler(handler)
	_, _ = factory.Core().V1().PersistentVolumes().Informer().AddEventHandler(handler)
	// A class that appears after its claims wakes them.
	_, _ = factory.Storage().V1().StorageClasses().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { c.wakeClaims() },
	})
	return c
}

// Run works until the context ends.
func (c *Controller) Run(ctx context.Context) {
	events := record.NewBroadcaster(record.WithContext(ctx))
	defer events.Shutdown()
	events.StartRecordingToSink(&typed.EventSinkImpl{Interface: c.client.CoreV1().Events("")})
	c.recorder = events.NewRecorder(scheme.Scheme, core.EventSource{Component: c.provisioner, Host: c.node})

	defer c.queue.ShutDown()
	c.factory.Start(ctx.Done())
	c.factory.WaitForCacheSync(ctx.Done())
	go c.work(ctx)
	<-ctx.Done()
}

func (c *Controller) work(ctx context.Context) {
	for {
		next, stopped := c.queue.Get()
		if stopped {
			return
		}
		err := c.sync(ctx, next)
		c.queue.Done(next)
		if err != nil {
			klog.ErrorS(err, "failed, will try again", "namespace", next.namespace, "name", next.name)
			c.queue.AddRateLimited(next)
			continue
		}
		c.queue.Forget(next)
	}
}

func (c *Controller) sync(ctx context.Context, next item) error {
	if next.namespace != "" {
		claim, err := c.claims.PersistentVolumeClaims(next.namespace).Get(next.name)
		if errors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return c.serve(ctx, claim)
	}
	volume, err := c.volumes.Get(next.name)
	if errors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.end(ctx, volume)
}

// serve gives a claim its volume.
func (c *Controller) serve(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	class := c.classOf(claim)
	verdict, reason := Judge(claim, class, c.provisioner, c.node)
	switch verdict {
	case Leave:
		return nil
	case Refuse:
		c.recorder.Event(claim, core.EventTypeWarning, "ProvisioningFailed", reason)
		return nil // Only a change of the claim can help, and that comes by itself.
	}
	volume := Build(claim, class, c.node, c.dir)
	if _, err := c.volumes.Get(volume.Name); err == nil {
		return nil
	}
	folder, err := Folder(volume, c.dir)
	if err != nil {
		return err
	}
	if err := makeFolder(folder); err != nil {
		c.recorder.Event(claim, core.EventTypeWarning, "ProvisioningFailed", err.Error())
		return err
	}
	_, err = c.client.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
	if err != nil && !errors.IsAlreadyExists(err) {
		return fmt.Errorf("failed to create volume %s: %w", volume.Name, err)
	}
	c.recorder.Eventf(claim, core.EventTypeNormal, "ProvisioningSucceeded", "provisioned volume %s", volume.Name)
	return nil
}

// makeFolder makes a folder that any user may write to, as a new disk with a world-writable root would be: a pod
// without fsGroup has no other way in. The cluster's own folder keeps the host's users out.
func makeFolder(path string) error {
	if err := os.MkdirAll(path, 0o777); err != nil {
		return fmt.Errorf("failed to make the folder of a volume: %w", err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return fmt.Errorf("failed to open the folder of a volume: %w", err)
	}
	return nil
}

// end removes a volume that nobody uses any more.
func (c *Controller) end(ctx context.Context, volume *core.PersistentVolume) error {
	verdict := JudgeEnd(volume, c.provisioner, c.node)
	if verdict == Keep {
		return nil
	}
	if verdict == RemoveAll {
		folder, err := Folder(volume, c.dir)
		if err != nil {
			return err
		}
		if err := os.RemoveAll(folder); err != nil {
			return fmt.Errorf("failed to remove the folder of volume %s: %w", volume.Name, err)
		}
	}
	if without := slices.DeleteFunc(slices.Clone(volume.Finalizers), func(f string) bool { return f == Finalizer }); len(without) < len(volume.Finalizers) {
		changed := volume.DeepCopy()
		changed.Finalizers = without
		updated, err := c.client.CoreV1().PersistentVolumes().Update(ctx, changed, meta.UpdateOptions{})
		if errors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("failed to let volume %s go: %w", volume.Name, err)
		}
		volume = updated
	}
	if volume.DeletionTimestamp != nil {
		return nil
	}
	err := c.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{
		Preconditions: &meta.Preconditions{UID: &volume.UID},
	})
	if err != nil && !errors.IsNotFound(err) {
		return fmt.Errorf("failed to delete volume %s: %w", volume.Name, err)
	}
	return nil
}

func (c *Controller) classOf(claim *core.PersistentVolumeClaim) *storage.StorageClass {
	if claim.Spec.StorageClassName == nil {
		return nil
	}
	class, err := c.classes.Get(*claim.Spec.StorageClassName)
	if err != nil {
		return nil // The lister knows no other error than absence.
	}
	return class
}

func (c *Controller) wakeClaims() {
	claims, _ := c.claims.List(labels.Everything())
	for _, claim := range claims {
		c.queue.Add(item{claim.Namespace, claim.Name})
	}
}

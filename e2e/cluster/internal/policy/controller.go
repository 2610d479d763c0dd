package policy

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const (
	// settle lets changes that come together become one transaction.
	settle = 20 * time.Millisecond
	// again is when a transaction that failed is tried once more.
	again = 2 * time.Second
)

// Enforce keeps the packet filter of this node as the cluster's policies have it, until the context ends. What was
// enforced last stays in force meanwhile: a node that has lost its API server is as closed as it was.
func Enforce(ctx context.Context, client kubernetes.Interface, machines, pods netip.Prefix) {
	factory := informers.NewSharedInformerFactory(client, 0)
	changed := make(chan struct{}, 1)
	wake := func() {
		select {
		case changed <- struct{}{}:
		default: // It is awake already.
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { wake() }, UpdateFunc: func(any, any) { wake() }, DeleteFunc: func(any) { wake() },
	}
	podCache, namespaces := factory.Core().V1().Pods(), factory.Core().V1().Namespaces()
	policies := factory.Networking().V1().NetworkPolicies()
	for _, informer := range []cache.SharedIndexInformer{podCache.Informer(), namespaces.Informer(), policies.Informer()} {
		_, _ = informer.AddEventHandler(handler) // Fails only on an informer that has been stopped.
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())

	inForce := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			time.Sleep(settle)
		}
		world := World{Machines: machines, Range: pods}
		// A cache is not asked over the network, and its answer has no error.
		world.Pods, _ = podCache.Lister().List(labels.Everything())
		world.Namespaces, _ = namespaces.Lister().List(labels.Everything())
		world.Policies, _ = policies.Lister().List(labels.Everything())
		rules, err := Rules(world)
		if err == nil && rules != inForce {
			err = apply(ctx, rules)
		}
		if err != nil {
			klog.ErrorS(err, "failed to enforce the policies, will try again")
			time.AfterFunc(again, wake)
			continue
		}
		inForce = rules
	}
}

func apply(ctx context.Context, rules string) error {
	nft := exec.CommandContext(ctx, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules)
	if output, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(string(output)))
	}
	return nil
}

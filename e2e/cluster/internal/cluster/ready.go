package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"valerix.io/cluster/internal/address"
	"valerix.io/cluster/internal/config"
	"valerix.io/cluster/internal/layout"
	"valerix.io/cluster/internal/pki"
	"valerix.io/cluster/internal/process"
)

// waiter waits for the parts of a starting cluster, and notices when there is nothing left to wait for.
type waiter struct {
	cluster layout.Cluster
	place   layout.Node
	running process.Identity
	client  kubernetes.Interface
}

func newWaiter(cluster layout.Cluster, place layout.Node, running process.Identity) (*waiter, error) {
	client, err := newClient(cluster)
	return &waiter{cluster, place, running, client}, err
}

// askLimit bounds one question to the API server.
const askLimit = 5 * time.Second

func newClient(cluster layout.Cluster) (kubernetes.Interface, error) {
	access, err := clientcmd.BuildConfigFromFlags("", cluster.Kubeconfig())
	if err == nil {
		access.Timeout = askLimit
		access.Proxy = noProxy
		var client kubernetes.Interface
		if client, err = kubernetes.NewForConfig(access); err == nil {
			return client, nil
		}
	}
	return nil, fmt.Errorf("failed to read the cluster's kubeconfig: %w", err)
}

func (w *waiter) containerd(ctx context.Context) error {
	return w.until(ctx, "containerd", "containerd", func(ctx context.Context) error {
		connection, err := new(net.Dialer).DialContext(ctx, "unix", containerdSocket(w.running))
		if err != nil {
			return err
		}
		return connection.Close()
	})
}

func (w *waiter) api(ctx context.Context) error {
	return w.until(ctx, "the API server", "kube-apiserver", func(ctx context.Context) error {
		_, err := w.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// addons applies what the cluster itself brings.
func (w *waiter) addons(ctx context.Context, plan address.Plan) error {
	authority, err := os.ReadFile(filepath.Join(w.cluster.PKI(), pki.ClusterAuthority+".crt"))
	if err != nil {
		return fmt.Errorf("failed to read the cluster's authority: %w", err)
	}
	manifest, err := config.Addons(plan, authority)
	if err != nil {
		return err
	}
	return w.apply(ctx, "DNS and the storage class", manifest)
}

// fakeNodes adds the nodes that kwok plays, and waits until it has reported them all.
func (w *waiter) fakeNodes(ctx context.Context, count int) error {
	manifest, err := config.FakeNodes(count)
	if err != nil {
		return err
	}
	if err := w.apply(ctx, "the fake nodes", manifest); err != nil {
		return err
	}
	return w.until(ctx, "the fake nodes", "kwok", func(ctx context.Context) error {
		found, err := w.client.CoreV1().Nodes().List(ctx, meta.ListOptions{LabelSelector: config.FakeMark + "=fake"})
		if err != nil {
			return err
		}
		for _, node := range found.Items {
			if err := nodeReady(&node); err != nil {
				return fmt.Errorf("%s: %w", node.Name, err)
			}
		}
		if len(found.Items) < count {
			return fmt.Errorf("%d of %d are there", len(found.Items), count)
		}
		return nil
	})
}

// apply applies objects as they are wanted, with the cluster's own kubectl.
func (w *waiter) apply(ctx context.Context, what string, manifest []byte) error {
	return w.until(ctx, what+" to be accepted", "kube-apiserver", func(ctx context.Context) error {
		apply := exec.CommandContext(ctx, w.cluster.Binary(), "kubectl", "--kubeconfig", w.cluster.Kubeconfig(),
			"apply", "--server-side", "--force-conflicts", "--filename", "-")
		apply.Stdin = bytes.NewReader(manifest)
		apply.Env = append(os.Environ(), "NO_PROXY=*")
		if output, err := apply.CombinedOutput(); err != nil {
			return fmt.Errorf("kubectl apply: %w: %s", err, bytes.TrimSpace(output))
		}
		return nil
	})
}

// node waits for the node and for the first thing that any pod needs, which a controller makes.
//
// A restarted cluster remembers that its node was ready, so only a lease that was renewed since the start counts.
func (w *waiter) node(ctx context.Context) error {
	started, err := os.Stat(w.place.Process())
	if err != nil {
		return fmt.Errorf("failed to learn when the node was started: %w", err)
	}
	err = w.until(ctx, "the node "+w.place.Name, "kubelet", func(ctx context.Context) error {
		lease, err := w.client.CoordinationV1().Leases("kube-node-lease").Get(ctx, w.place.Name, meta.GetOptions{})
		if err != nil {
			return err
		}
		if lease.Spec.RenewTime == nil || lease.Spec.RenewTime.Time.Before(started.ModTime()) {
			return errors.New("it has not reported since it was started")
		}
		found, err := w.client.CoreV1().Nodes().Get(ctx, w.place.Name, meta.GetOptions{})
		if err != nil {
			return err
		}
		return nodeReady(found)
	})
	if err != nil {
		return err
	}
	return w.until(ctx, "the default service account", "kube-controller-manager", func(ctx context.Context) error {
		_, err := w.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", meta.GetOptions{})
		return err
	})
}

// metrics waits until the metrics API is there: one that is announced and does not answer keeps namespaces from being
// deleted, and makes every kubectl complain.
func (w *waiter) metrics(ctx context.Context) error {
	return w.until(ctx, "the metrics API", "metrics-server", func(ctx context.Context) error {
		_, err := w.client.Discovery().RESTClient().Get().AbsPath("/apis/metrics.k8s.io/v1beta1").DoRaw(ctx)
		return err
	})
}

func nodeReady(found *core.Node) error {
	for _, condition := range found.Status.Conditions {
		if condition.Type == core.NodeReady {
			if condition.Status == core.ConditionTrue {
				return nil
			}
			return fmt.Errorf("%s: %s", condition.Reason, condition.Message)
		}
	}
	return errors.New("it has not reported yet")
}

// dns asks the cluster's DNS, from the host: the answer proves the pod, its service and the way there.
func (w *waiter) dns(ctx context.Context, plan address.Plan) error {
	const name = "kubernetes.default.svc.cluster.local."
	resolver := &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, netip.AddrPortFrom(plan.DNS(), 53).String())
		},
	}
	return w.until(ctx, "DNS", "kubelet", func(ctx context.Context) error {
		// A question to a pod that is not there yet is lost, and the next one may find it.
		ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		found, err := resolver.LookupNetIP(ctx, "ip4", name)
		if err != nil {
			return err
		}
		if len(found) != 1 || found[0] != plan.API() {
			return fmt.Errorf("%s is %v, not %s", name, found, plan.API())
		}
		return nil
	})
}

// until asks again and again. Its error tells what was waited for, what the last answer was, and what the component
// that is to blame logged last.
func (w *waiter) until(ctx context.Context, what, component string, ask func(context.Context) error) error {
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if !w.running.Alive() {
			return fmt.Errorf("the node's first process ended while waiting for %s: %w%s", what, err, w.excerpt("node"))
		}
		select {
		case <-ctx.Done():
			if interrupted(ctx) {
				return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
			}
			return fmt.Errorf("failed to wait for %s: %w%s", what, err, w.excerpt(component))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// excerpt returns the end of a component's log.
func (w *waiter) excerpt(component string) string {
	path := filepath.Join(w.place.Logs(), component+".log")
	content, err := os.ReadFile(path)
	if err != nil || len(content) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	lines = lines[max(0, len(lines)-5):]
	return fmt.Sprintf("\nthe end of %s:\n  %s", path, strings.Join(lines, "\n  "))
}

// noProxy: the cluster is on this host, whatever the environment says about the rest of the world.
func noProxy(*http.Request) (*url.URL, error) { return nil, nil }

// Package component holds every Kubernetes component of the cluster, so that one static binary is the whole
// distribution.
//
// It is the only package that links Kubernetes itself (two minutes of compilation); nothing that has unit tests
// imports it.
package component

import (
	"context"
	"os"
	"slices"

	// CronJobs name time zones. Upstream embeds the database in its own main files, which are not used here.
	_ "time/tzdata"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	metricsserver "sigs.k8s.io/metrics-server/cmd/metrics-server/app"
)

// Kubectl is the one that is a command as well: whoever runs it by that command has chosen a cluster first.
const Kubectl = "kubectl"

var components = []string{
	"coredns", "etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet",
	"metrics-server",
}

// Is says whether name is a component of a cluster.
func Is(name string) bool { return slices.Contains(components, name) }

// Run becomes the component that the first argument names and returns its exit code.
func Run(arguments []string) int {
	os.Args = arguments // Components read it themselves.
	switch arguments[0] {
	case "etcd":
		etcdmain.Main(os.Args)
		return 0
	case "coredns":
		// Upstream generates this list from its plugin.cfg; the order is the order in which a query passes them.
		dnsserver.Directives = []string{"reload", "bind", "errors", "health", "ready", "cache", "kubernetes"}
		coremain.Run()
		return 0
	case Kubectl:
		command := kubectl.NewDefaultKubectlCommand()
		if err := cli.RunNoErrOutput(command); err != nil {
			util.CheckErr(err)
		}
		return 0
	}
	return cli.Run(command(arguments[0]))
}

func command(name string) *cobra.Command {
	switch name {
	case "kube-apiserver":
		return apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		return controllermanager.NewControllerManagerCommand()
	case "kube-scheduler":
		return scheduler.NewSchedulerCommand()
	case "kubelet":
		return kubelet.NewKubeletCommand(context.Background())
	case "kube-proxy":
		return proxy.NewProxyCommand()
	case "metrics-server":
		return metricsserver.NewMetricsServerCommand(server.SetupSignalHandler())
	}
	panic("not a component: " + name) // Is was not asked first.
}

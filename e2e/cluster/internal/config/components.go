package config

import (
	"fmt"

	"valerix.io/cluster/internal/address"
	"valerix.io/cluster/internal/layout"
	"valerix.io/cluster/internal/pki"
)

// Need is what must answer before a component is started.
type Need int

const (
	Nothing Need = iota
	NeedEtcd
	NeedAPI
	NeedAPIAndRuntime
)

// Component is a process of a node.
type Component struct {
	Name    string
	Command []string
	Need    Need
}

// Components lists the processes of a node in the order in which they start; they are stopped in the reverse order.
func (n Node) Components() []Component {
	runtime := Component{Name: "containerd", Command: []string{"containerd", "--config", n.dir() + "/containerd.toml"}}
	agents := []Component{n.kubelet(), n.kubeProxy(), n.localVolumes(), n.networkPolicies()}
	if n.Number > 1 {
		return append([]Component{runtime}, agents...)
	}
	if n.playsKubelets() {
		agents = append(agents, playedKubelets())
	}
	return append([]Component{runtime, etcd(), n.kubeAPIServer(), kubeControllerManager(), kubeScheduler(), metricsServer()}, agents...)
}

// playsKubelets says whether kwok runs on this node.
func (n Node) playsKubelets() bool { return n.Number == 1 && n.FakeNodes > 0 }

func etcd() Component {
	flags := []string{
		"--name=node-1",
		"--data-dir=" + layout.Inside + "/etcd",
		"--listen-client-urls=" + etcdURL,
		"--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=https://127.0.0.1:2380",
		"--initial-advertise-peer-urls=https://127.0.0.1:2380",
		"--initial-cluster=node-1=https://127.0.0.1:2380",
		// A cluster for tests and demonstrations survives the death of its processes, not the loss of the host's
		// power; in return nothing waits for the disk.
		"--unsafe-no-fsync",
		"--log-level=warn",
	}
	// A pod on the host network shares the loopback device, so etcd asks even there who calls.
	for _, party := range []string{"", "peer-"} {
		flags = append(flags,
			"--"+party+"cert-file="+certificate(etcdCertificate), "--"+party+"key-file="+key(etcdCertificate),
			"--"+party+"trusted-ca-file="+certificate(pki.EtcdAuthority), "--"+party+"client-cert-auth",
		)
	}
	return embedded("etcd", Nothing, flags...)
}

const etcdURL = "https://127.0.0.1:2379"

func (n Node) kubeAPIServer() Component {
	return embedded("kube-apiserver", NeedEtcd,
		"--etcd-servers="+etcdURL,
		"--etcd-cafile="+certificate(pki.EtcdAuthority),
		"--etcd-certfile="+certificate(apiServerToEtcdCertificate),
		"--etcd-keyfile="+key(apiServerToEtcdCertificate),
		"--secure-port=6443",
		"--advertise-address="+n.Plan.Node(1).String(),
		"--client-ca-file="+certificate(pki.ClusterAuthority),
		"--tls-cert-file="+certificate(apiServerCertificate),
		"--tls-private-key-file="+key(apiServerCertificate),
		"--kubelet-client-certificate="+certificate(apiServerToNodeCertificate),
		"--kubelet-client-key="+key(apiServerToNodeCertificate),
		"--kubelet-certificate-authority="+certificate(pki.ClusterAuthority),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-cluster-ip-range="+n.Plan.Services.String(),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+pkiDir+"/"+pki.ServiceAccountKey+".pub",
		"--service-account-signing-key-file="+key(pki.ServiceAccountKey),
		"--authorization-mode=Node,RBAC",
		// OwnerReferencesPermissionEnforcement refuses an owner reference that blocks deletion to whoever may not
		// update the owner's finalizers: an operator that lacks the right fails here rather than on OpenShift.
		"--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
		"--allow-privileged=true",
		// Metrics and other extension APIs are reached by their endpoints, which may lie on the host.
		"--enable-aggregator-routing=true",
		"--requestheader-client-ca-file="+certificate(pki.FrontAuthority),
		"--requestheader-allowed-names="+frontProxyCertificate,
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file="+certificate(frontProxyCertificate),
		"--proxy-client-key-file="+key(frontProxyCertificate),
		"--audit-policy-file="+configDir+"/audit-policy.yaml",
		"--audit-log-path="+layout.Inside+"/audit.log",
		"--audit-log-maxsize=200",
		"--audit-log-maxbackup=2",
	)
}

func kubeControllerManager() Component {
	return embedded("kube-controller-manager", NeedAPI, append(client(controllerManagerCertificate),
		"--service-account-private-key-file="+key(pki.ServiceAccountKey),
		"--root-ca-file="+certificate(pki.ClusterAuthority),
		"--cluster-signing-cert-file="+certificate(pki.ClusterAuthority),
		"--cluster-signing-key-file="+key(pki.ClusterAuthority),
		"--use-service-account-credentials",
		"--leader-elect=false",
		// Node n has the n-th range; the nodes' numbers decide, not the order in which they register.
		"--allocate-node-cidrs=false",
		"--concurrent-replicaset-syncs=10",
		// The default lies in /usr of the host and would be created there.
		"--flex-volume-plugin-dir=/var/lib/kubelet/volumeplugins",
	)...)
}

func kubeScheduler() Component {
	return embedded("kube-scheduler", NeedAPI, append(client(schedulerCertificate), "--leader-elect=false")...)
}

func metricsServer() Component {
	path := kubeconfig(metricsCertificate)
	return embedded("metrics-server", NeedAPI,
		"--kubeconfig="+path, "--authentication-kubeconfig="+path, "--authorization-kubeconfig="+path,
		fmt.Sprintf("--secure-port=%d", MetricsPort),
		"--tls-cert-file="+certificate(metricsCertificate), "--tls-private-key-file="+key(metricsCertificate),
		"--kubelet-certificate-authority="+certificate(pki.ClusterAuthority),
		"--kubelet-preferred-address-types=InternalIP",
		// The least that it takes: an autoscaler is as slow as its figures are old.
		"--metric-resolution=10s", "--kubelet-request-timeout=5s",
		// A fake node has no kubelet that could be asked.
		"--node-selector="+FakeMark+"!=fake",
	)
}

// client gives a controller its kubeconfig in the three roles that it has, and a rate that does not slow tests down.
func client(name string) []string {
	path := kubeconfig(name)
	return []string{
		"--kubeconfig=" + path, "--authentication-kubeconfig=" + path, "--authorization-kubeconfig=" + path,
		"--kube-api-qps=300", "--kube-api-burst=600",
	}
}

func (n Node) kubelet() Component {
	return embedded("kubelet", NeedAPIAndRuntime,
		"--config="+n.dir()+"/kubelet.yaml",
		"--kubeconfig="+kubeconfig(n.kubeletCertificate()),
		"--hostname-override="+n.Name,
		"--node-ip="+n.Plan.Node(n.Number).String(),
		"--node-labels=topology.kubernetes.io/zone="+n.Zone(),
		"--root-dir=/var/lib/kubelet",
	)
}

func (n Node) kubeProxy() Component {
	return embedded("kube-proxy", NeedAPI,
		"--kubeconfig="+kubeconfig(proxyCertificate),
		"--proxy-mode=iptables",
		"--hostname-override="+n.Name,
		"--cluster-cidr="+n.Plan.Pods.String(),
		// The limit of tracked connections belongs to the host and cannot be set in a namespace.
		"--conntrack-max-per-core=0",
	)
}

func (n Node) localVolumes() Component {
	return embedded("local-volumes", NeedAPI,
		"--kubeconfig="+kubeconfig(VolumesCertificate), "--node="+n.Name, "--dir="+Volumes)
}

func (n Node) networkPolicies() Component {
	return embedded("network-policies", NeedAPI,
		"--kubeconfig="+kubeconfig(PoliciesCertificate), "--machines="+n.Plan.Link.String(), "--pods="+n.Plan.Pods.String())
}

// playedKubelets is kwok. The stages of its module say what becomes of nodes and pods: it has none by itself.
func playedKubelets() Component {
	return Component{Name: "kwok", Need: NeedAPI, Command: []string{
		kwok, "--kubeconfig=" + kubeconfig(kwokCertificate), "--config=" + stages,
		"--manage-nodes-with-annotation-selector=" + FakeMark + "=fake",
		"--cidr=" + address.FakePods.String(),
		"--node-lease-duration-seconds=40",
	}}
}

func embedded(name string, need Need, flags ...string) Component {
	return Component{Name: name, Need: need, Command: append([]string{binary, name}, flags...)}
}

func certificate(name string) string { return pkiDir + "/" + name + ".crt" }
func key(name string) string         { return pkiDir + "/" + name + ".key" }
func kubeconfig(name string) string  { return configDir + "/" + name + ".kubeconfig" }

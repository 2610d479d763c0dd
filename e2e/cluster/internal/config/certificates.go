package config

import (
	"net/netip"

	"valerix.io/cluster/internal/pki"
)

// Files of the certificates; each client also has a kubeconfig of that name.
const (
	AdminCertificate             = "admin"
	PoliciesCertificate          = "network-policies"
	VolumesCertificate           = "local-volumes"
	kwokCertificate              = "kwok"
	metricsCertificate           = "metrics-server"
	apiServerCertificate         = "kube-apiserver"
	apiServerToEtcdCertificate   = "kube-apiserver-etcd"
	apiServerToNodeCertificate   = "kube-apiserver-kubelet"
	controllerManagerCertificate = "kube-controller-manager"
	etcdCertificate              = "etcd"
	frontProxyCertificate        = "front-proxy"
	proxyCertificate             = "kube-proxy"
	schedulerCertificate         = "kube-scheduler"

	kwokUser     = "valerix:kwok"
	metricsUser  = "valerix:metrics-server"
	policiesUser = "valerix:network-policies"
	volumesUser  = "valerix:local-volumes"
	// superusers bypass authorization; the administrator is one, as with kubeadm's super-admin.conf.
	superusers = "system:masters"
)

func (n Node) kubeletCertificate() string { return "kubelet-" + n.Name }

// Certificates lists what the node's components show to each other. Node 1 is prepared before all others and has the
// control plane's too, and those that the agents of all nodes share.
func (n Node) Certificates() []pki.Certificate {
	loopback, address := netip.AddrFrom4([4]byte{127, 0, 0, 1}), n.Plan.Node(n.Number)
	client := func(file, user, group string) pki.Certificate {
		return pki.Certificate{File: file, Authority: pki.ClusterAuthority, CommonName: user, Organization: group}
	}
	kubelet := client(n.kubeletCertificate(), "system:node:"+n.Name, "system:nodes")
	kubelet.DNS, kubelet.Addresses = []string{n.Name}, []netip.Addr{loopback, address}

	if n.Number > 1 {
		return []pki.Certificate{kubelet}
	}
	all := []pki.Certificate{
		kubelet,
		client(proxyCertificate, "system:kube-proxy", ""),
		client(VolumesCertificate, volumesUser, ""),
		client(PoliciesCertificate, policiesUser, ""),
		pki.Certificate{
			File: apiServerCertificate, Authority: pki.ClusterAuthority, CommonName: "kube-apiserver",
			DNS: []string{
				"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc.cluster.local",
			},
			Addresses: []netip.Addr{loopback, address, n.Plan.API()},
		},
		pki.Certificate{
			File: metricsCertificate, Authority: pki.ClusterAuthority, CommonName: metricsUser,
			DNS: []string{"metrics-server.kube-system.svc"},
		},
		client(AdminCertificate, "admin", superusers),
		client(apiServerToNodeCertificate, "kube-apiserver-kubelet", superusers),
		client(controllerManagerCertificate, "system:kube-controller-manager", ""),
		client(schedulerCertificate, "system:kube-scheduler", ""),
		pki.Certificate{File: frontProxyCertificate, Authority: pki.FrontAuthority, CommonName: frontProxyCertificate},
		pki.Certificate{File: apiServerToEtcdCertificate, Authority: pki.EtcdAuthority, CommonName: "kube-apiserver"},
		pki.Certificate{
			File: etcdCertificate, Authority: pki.EtcdAuthority, CommonName: "etcd",
			DNS: []string{"localhost"}, Addresses: []netip.Addr{loopback},
		},
	}
	if n.playsKubelets() {
		all = append(all, client(kwokCertificate, kwokUser, ""))
	}
	return all
}

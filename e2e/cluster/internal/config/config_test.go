package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"valerix.io/cluster/internal/address"
	"valerix.io/cluster/internal/layout"
	"valerix.io/cluster/internal/pki"
)

func node(t *testing.T, index, number int) Node {
	t.Helper()
	plan, err := address.ForIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	return Node{Plan: plan, Name: fmt.Sprintf("demo-node-%d", number), Number: number, CNIBin: "/usr/lib/cni"}
}

func rendered(t *testing.T, n Node) map[string]string {
	t.Helper()
	files, err := n.Files()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, file := range files {
		found[file.Name] = string(file.Content)
	}
	return found
}

func TestTheKubeletIsToldTheClustersAddresses(t *testing.T) {
	var kubelet struct {
		ClusterDNS []string `json:"clusterDNS"`
		CgroupRoot string   `json:"cgroupRoot"`
		TLSCert    string   `json:"tlsCertFile"`
		Auth       struct {
			Anonymous struct{ Enabled bool }
		} `json:"authentication"`
	}
	kubelet.Auth.Anonymous.Enabled = true
	if err := yaml.Unmarshal([]byte(rendered(t, node(t, 2, 1))["demo-node-1/kubelet.yaml"]), &kubelet); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(kubelet.ClusterDNS, []string{"10.69.0.10"}) || kubelet.CgroupRoot != "/vlx2-demo-node-1" {
		t.Errorf("got %+v", kubelet)
	}
	if kubelet.Auth.Anonymous.Enabled {
		t.Error("anybody may talk to the kubelet")
	}
	if want := "/run/valerix/pki/kubelet-demo-node-1.crt"; kubelet.TLSCert != want {
		t.Errorf("its certificate is %s", kubelet.TLSCert)
	}
}

func TestPodsOfANodeShareItsRange(t *testing.T) {
	var network struct {
		Plugins []struct {
			IPAM struct{ Ranges [][]struct{ Subnet string } }
		}
	}
	if err := json.Unmarshal([]byte(rendered(t, node(t, 1, 1))["demo-node-1/cni/10-bridge.conflist"]), &network); err != nil {
		t.Fatal(err)
	}
	if got := network.Plugins[0].IPAM.Ranges[0][0].Subnet; got != "10.66.1.0/24" {
		t.Errorf("got %s", got)
	}
}

func TestEveryFileThatAComponentReadsIsMade(t *testing.T) {
	// What is made for node 1 is there for all, and it is made first.
	made := map[string]bool{}
	for number := 1; number <= address.MaxNodes; number++ {
		everyFileIsMade(t, node(t, 1, number), made)
	}
}

func everyFileIsMade(t *testing.T, n Node, made map[string]bool) {
	t.Helper()
	files := rendered(t, n)
	for name := range files {
		made[configDir+"/"+name] = true
	}
	for _, name := range []string{pki.ClusterAuthority, pki.EtcdAuthority, pki.FrontAuthority} {
		made[pkiDir+"/"+name+".crt"], made[pkiDir+"/"+name+".key"] = true, true
	}
	made[pkiDir+"/"+pki.ServiceAccountKey+".key"], made[pkiDir+"/"+pki.ServiceAccountKey+".pub"] = true, true
	for _, certificate := range n.Certificates() {
		made[pkiDir+"/"+certificate.File+".crt"], made[pkiDir+"/"+certificate.File+".key"] = true, true
	}
	check := func(who, text string) {
		for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("\"' =,{}\n", r) }) {
			if (strings.HasPrefix(word, pkiDir+"/") || strings.HasPrefix(word, configDir+"/")) &&
				filepath.Ext(word) != "" && !made[word] {
				t.Errorf("%s reads %s, which nobody writes", who, word)
			}
		}
	}
	for _, component := range n.Components() {
		check(component.Name, strings.Join(component.Command, " "))
	}
	for name, content := range files {
		check(name, content)
	}
}

func TestOnlyTheFirstNodeCarriesTheControlPlane(t *testing.T) {
	names := func(n Node) (all []string) {
		for _, component := range n.Components() {
			all = append(all, component.Name)
		}
		return all
	}
	if first := names(node(t, 1, 1)); !slices.Contains(first, "kube-apiserver") || !slices.Contains(first, "kubelet") {
		t.Errorf("the first node runs %v", first)
	}
	if second := names(node(t, 1, 2)); slices.Contains(second, "etcd") || !slices.Contains(second, "kube-proxy") {
		t.Errorf("the second node runs %v", second)
	}
	for _, certificate := range node(t, 1, 2).Certificates() {
		if certificate.Organization == superusers {
			t.Errorf("the second node holds the administrator's certificate %s", certificate.File)
		}
	}
}

func TestEachNodeHasAZoneAndARangeOfItsOwn(t *testing.T) {
	told := map[string]int{}
	for number := 1; number <= address.MaxNodes; number++ {
		n := node(t, 1, number)
		for _, component := range n.Components() {
			for _, flag := range component.Command {
				if strings.HasPrefix(flag, "--node-labels=") {
					told[flag] = number
				}
			}
		}
		told[n.Plan.NodePods(number).String()], told[n.CgroupRoot()] = number, number
	}
	if len(told) != 3*address.MaxNodes || told["--node-labels=topology.kubernetes.io/zone=zone-b"] != 2 {
		t.Errorf("got %v", told)
	}
}

func TestTheServersCertificateCoversItsAddresses(t *testing.T) {
	n := node(t, 3, 1)
	for _, certificate := range n.Certificates() {
		if certificate.File != apiServerCertificate {
			continue
		}
		for _, address := range []string{"10.201.3.2", "10.71.0.1", "127.0.0.1"} {
			if !slices.Contains(certificate.Addresses, netip.MustParseAddr(address)) {
				t.Errorf("%s is missing", address)
			}
		}
		return
	}
	t.Error("there is no certificate of the API server")
}

func TestAuditLogAndAdmission(t *testing.T) {
	for _, component := range node(t, 1, 1).Components() {
		if component.Name != "kube-apiserver" {
			continue
		}
		for _, flag := range []string{
			"--audit-log-path=" + layout.Inside + "/audit.log",
			"--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
			"--service-cluster-ip-range=10.67.0.0/16",
		} {
			if !slices.Contains(component.Command, flag) {
				t.Errorf("%s is missing", flag)
			}
		}
	}
	var policy struct {
		OmitStages []string
		Rules      []struct{ Level string }
	}
	if err := yaml.Unmarshal([]byte(rendered(t, node(t, 1, 1))["audit-policy.yaml"]), &policy); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(policy.OmitStages, []string{"RequestReceived"}) || len(policy.Rules) != 1 || policy.Rules[0].Level != "Metadata" {
		t.Errorf("got %+v", policy)
	}
}

func TestAddonsAreWholeObjects(t *testing.T) {
	plan, _ := address.ForIndex(2)
	manifest, err := Addons(plan, []byte("PEM"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, document := range strings.Split(string(manifest), "\n---\n") {
		var object struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     struct{ ClusterIP, CABundle string }
		}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatalf("%v in %s", err, document)
		}
		if object.Metadata.Name == "" {
			t.Errorf("an object has no name: %s", document)
		}
		if object.Kind == "APIService" && object.Spec.CABundle != "UEVN" {
			t.Errorf("the metrics API is trusted by %q", object.Spec.CABundle)
		}
		if object.Metadata.Name == "kube-dns" && object.Spec.ClusterIP != "10.69.0.10" {
			t.Errorf("DNS is at %s", object.Spec.ClusterIP)
		}
		kinds[object.Kind]++
	}
	if kinds["Deployment"] != 1 || kinds["StorageClass"] != 1 || kinds["ClusterRoleBinding"] != 5 || kinds["APIService"] != 1 {
		t.Errorf("got %v", kinds)
	}
}

func TestFakeNodesArePlayedByTheFirstNode(t *testing.T) {
	first := node(t, 1, 1)
	runs := func(n Node) bool {
		return slices.ContainsFunc(n.Components(), func(c Component) bool { return c.Name == "kwok" })
	}
	if runs(first) {
		t.Error("a cluster without fake nodes has kwok")
	}
	second := node(t, 1, 2)
	first.FakeNodes, second.FakeNodes = 30, 30
	if !runs(first) || runs(second) {
		t.Error("kwok runs on the first node and on no other")
	}
	everyFileIsMade(t, first, map[string]bool{})
}

func TestFakeNodesAreWholeObjects(t *testing.T) {
	manifest, err := FakeNodes(4)
	if err != nil {
		t.Fatal(err)
	}
	zones := map[string]int{}
	for _, document := range strings.Split(string(manifest), "\n---\n") {
		var object struct {
			Kind     string
			Metadata struct {
				Name                string
				Labels, Annotations map[string]string
			}
			Spec struct {
				Taints []struct{ Key, Value, Effect string }
			}
		}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatalf("%v in %s", err, document)
		}
		if object.Kind != "Node" {
			continue
		}
		zones[object.Metadata.Labels["topology.kubernetes.io/zone"]]++
		if object.Metadata.Labels[FakeMark] != "fake" || object.Metadata.Annotations[FakeMark] != "fake" {
			t.Errorf("nobody finds %s", document)
		}
		if taints := object.Spec.Taints; len(taints) != 1 || taints[0].Key != FakeMark || taints[0].Effect != "NoSchedule" {
			t.Errorf("a pod that does not know better would come to %s", document)
		}
	}
	if len(zones) != 3 || zones["zone-a"] != 2 {
		t.Errorf("got %v", zones)
	}
}

func TestKubeconfigCarriesCredentialsOrNamesThem(t *testing.T) {
	for embedded, want := range map[bool]string{true: "client-key-data", false: "client-key"} {
		content, err := Kubeconfig(Access{Context: "valerix-demo", Server: "https://s", Key: "K", Embedded: embedded})
		if err != nil {
			t.Fatal(err)
		}
		var parsed struct {
			CurrentContext string `json:"current-context"`
			Users          []struct{ User map[string]string }
		}
		if err := json.Unmarshal(content, &parsed); err != nil {
			t.Fatalf("%v in %s", err, content)
		}
		if parsed.CurrentContext != "valerix-demo" || parsed.Users[0].User[want] != "K" {
			t.Errorf("embedded %v: got %s", embedded, content)
		}
	}
}

func TestNoFileNamesAPlaceOfTheHost(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range rendered(t, node(t, 1, 1)) {
		if strings.Contains(content, layout.DefaultState) || strings.Contains(content, home+"/") {
			t.Errorf("%s depends on where the host keeps the cluster: %s", name, content)
		}
	}
}

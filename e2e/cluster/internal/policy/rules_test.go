package policy

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func pod(namespace, app, ip string) *core.Pod {
	return &core.Pod{
		ObjectMeta: meta.ObjectMeta{Namespace: namespace, Name: app, Labels: map[string]string{"app": app}},
		Spec: core.PodSpec{Containers: []core.Container{{Ports: []core.ContainerPort{
			{Name: "http", ContainerPort: 8080}, {Name: "dns", ContainerPort: 53, Protocol: core.ProtocolUDP},
		}}}},
		Status: core.PodStatus{Phase: core.PodRunning, PodIP: ip},
	}
}

// rulesFor renders the policies, given as the specs of objects in namespace shop.
func rulesFor(t *testing.T, specs ...string) string {
	t.Helper()
	world := World{
		Machines: netip.MustParsePrefix("10.201.1.0/24"),
		Range:    netip.MustParsePrefix("10.66.0.0/16"),
		Pods: []*core.Pod{
			pod("shop", "order", "10.66.1.3"), pod("shop", "inventory", "10.66.1.2"), pod("ops", "prometheus", "10.66.2.9"),
			pod("shop", "waiting", ""),
		},
		Namespaces: []*core.Namespace{
			{ObjectMeta: meta.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "shop"}}},
			{ObjectMeta: meta.ObjectMeta{Name: "ops", Labels: map[string]string{"team": "ops"}}},
		},
	}
	ended := pod("shop", "inventory", "10.66.1.77")
	ended.Status.Phase = core.PodSucceeded
	onHost := pod("shop", "inventory", "10.201.1.2")
	onHost.Spec.HostNetwork = true
	world.Pods = append(world.Pods, ended, onHost, pod("shop", "inventory", "10.250.0.7"))
	for i, spec := range specs {
		policy := &networking.NetworkPolicy{ObjectMeta: meta.ObjectMeta{Namespace: "shop", Name: fmt.Sprint("p", i)}}
		if err := yaml.UnmarshalStrict([]byte(spec), &policy.Spec); err != nil {
			t.Fatal(err)
		}
		world.Policies = append(world.Policies, policy)
	}
	rules, err := Rules(world)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(rules, "10.66.1.77") || strings.Contains(rules, "10.201.1.2,") || strings.Contains(rules, "10.250.") {
		t.Errorf("a pod that has ended, has no address of its own or is fake is in the rules:\n%s", rules)
	}
	return rules
}

// lines returns the rules of a chain.
func lines(rules, chain string) (found []string) {
	_, rest, _ := strings.Cut(rules, "chain "+chain+" {\n")
	body, _, _ := strings.Cut(rest, "  }\n")
	for line := range strings.Lines(body) {
		found = append(found, strings.TrimSpace(line))
	}
	return found
}

func TestWithoutPoliciesNothingIsFiltered(t *testing.T) {
	if rules := rulesFor(t); strings.Contains(rules, "chain") {
		t.Errorf("got %s", rules)
	}
	if rules := rulesFor(t, `{podSelector: {matchLabels: {app: nobody}}, policyTypes: [Ingress]}`); strings.Contains(rules, "drop") {
		t.Errorf("a policy for nobody drops something: %s", rules)
	}
}

func TestWhatAPolicyAllowsIsAllThatPasses(t *testing.T) {
	const to, from = "ct reply ip saddr { 10.66.1.2 }", "ct original ip saddr { 10.66.1.2 }"
	for name, check := range map[string]struct {
		spec, chain string
		want        []string
	}{
		"nothing at all": {`{podSelector: {matchLabels: {app: inventory}}, policyTypes: [Ingress]}`, "ingress", nil},
		"everything":     {`{podSelector: {matchLabels: {app: inventory}}, policyTypes: [Ingress], ingress: [{}]}`, "ingress", []string{to}},
		"pods of the own namespace": {
			`{podSelector: {matchLabels: {app: inventory}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}`,
			"ingress", []string{to + " ct original ip saddr { 10.66.1.2, 10.66.1.3 }"},
		},
		"pods of another namespace, one port": {
			`{podSelector: {matchLabels: {app: inventory}}, policyTypes: [Ingress],
			  ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}], ports: [{port: 9090}]}]}`,
			"ingress", []string{to + " ct original ip saddr { 10.66.2.9 } ct protocol tcp ct reply proto-src 9090"},
		},
		"both selectors of one peer must hold": {
			`{podSelector: {matchLabels: {app: inventory}}, policyTypes: [Ingress],
			  ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}, podSelector: {matchLabels: {app: order}}}]}]}`,
			"ingress", nil,
		},
		"a port by its name": {
			`{podSelector: {matchLabels: {app: inventory}}, policyTypes: [Ingress], ingress: [{ports: [{port: http}, {port: dns, protocol: TCP}]}]}`,
			"ingress", []string{to + " ct protocol tcp ct reply ip saddr 10.66.1.2 ct reply proto-src 8080"},
		},
		"ports from to, and a protocol whole": {
			`{podSelector: {matchLabels: {app: inventory}}, policyTypes: [Egress], egress: [{ports: [{port: 32000, endPort: 32768}, {protocol: UDP}]}]}`,
			"egress", []string{from + " ct protocol tcp ct reply proto-src 32000-32768", from + " ct protocol udp"},
		},
		"out to pods by the name of their port": {
			`{podSelector: {matchLabels: {app: inventory}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: order}}}], ports: [{port: http}]}]}`,
			"egress", []string{from + " ct reply ip saddr { 10.66.1.3 } ct protocol tcp ct reply ip saddr 10.66.1.3 ct reply proto-src 8080"},
		},
		"a range less another": {
			`{podSelector: {matchLabels: {app: inventory}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.128.0.0/9, 10.0.0.0/10]}}]}]}`,
			"egress", []string{from + " ct reply ip saddr 10.64.0.0/10"},
		},
	} {
		want := []string{}
		for _, rule := range check.want {
			want = append(want, rule+" return")
		}
		rules := rulesFor(t, check.spec)
		if got := lines(rules, check.chain); !slices.Equal(got, append(want, "drop")) {
			t.Errorf("%s: got %q", name, got)
		}
		if !slices.Contains(lines(rules, "forward"), "ct original ip saddr 10.201.1.0/24 accept") {
			t.Errorf("%s: the machines are shut out: %s", name, rules)
		}
	}
}

func TestPoliciesOnOnePodAddUp(t *testing.T) {
	got := lines(rulesFor(t,
		`{podSelector: {}, policyTypes: [Ingress, Egress]}`,
		`{podSelector: {matchLabels: {app: inventory}}, policyTypes: [Ingress], ingress: [{ports: [{port: 1}]}]}`,
	), "ingress")
	if len(got) != 2 || got[1] != "drop" {
		t.Errorf("got %q", got)
	}
}

func TestTheRulesAreInTheFiltersLanguage(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Log("nft is not installed: the language of the rules is looked at by `cluster up` alone")
		return
	}
	rules := rulesFor(t, `{podSelector: {}, policyTypes: [Ingress, Egress],
		ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: http}, {port: 1, endPort: 9}]}],
		egress: [{to: [{namespaceSelector: {}}], ports: [{port: 53, protocol: UDP}, {port: 5, protocol: SCTP}]}]}`)
	check := exec.Command("unshare", "--net", "nft", "--check", "-f", "-")
	check.Stdin = strings.NewReader(rules)
	if output, err := check.CombinedOutput(); err != nil && !strings.Contains(string(output), "Operation not permitted") {
		t.Errorf("%v: %s\n%s", err, output, rules)
	}
}

package address

import (
	"net/netip"
	"strings"
	"testing"
)

func TestAddressesFollowFromTheIndex(t *testing.T) {
	plan, err := ForIndex(2)
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range []struct{ what, got, want string }{
		{"link name", plan.LinkName(), "vlx2"},
		{"link", plan.Link.String(), "10.201.2.0/24"},
		{"host", plan.Host().String(), "10.201.2.1"},
		{"node 1", plan.Node(1).String(), "10.201.2.2"},
		{"node 3", plan.Node(3).String(), "10.201.2.4"},
		{"pods", plan.Pods.String(), "10.68.0.0/16"},
		{"pods of node 1", plan.NodePods(1).String(), "10.68.1.0/24"},
		{"services", plan.Services.String(), "10.69.0.0/16"},
		{"api", plan.API().String(), "10.69.0.1"},
		{"dns", plan.DNS().String(), "10.69.0.10"},
		{"server", plan.Server(), "https://10.201.2.2:6443"},
	} {
		if check.got != check.want {
			t.Errorf("%s is %s, want %s", check.what, check.got, check.want)
		}
	}
}

func TestNoTwoClustersShareAnAddress(t *testing.T) {
	var seen []netip.Prefix
	for index := MinIndex; index <= MaxIndex; index++ {
		plan, err := ForIndex(index)
		if err != nil {
			t.Fatal(err)
		}
		for _, prefix := range []netip.Prefix{plan.Link, plan.Pods, plan.Services} {
			for _, other := range seen {
				if prefix.Overlaps(other) {
					t.Fatalf("index %d: %s overlaps %s", index, prefix, other)
				}
			}
			seen = append(seen, prefix)
		}
	}
}

func TestIndexOutsideTheRangeIsRefused(t *testing.T) {
	for _, index := range []int{MinIndex - 1, MaxIndex + 1, -3} {
		if _, err := ForIndex(index); err == nil {
			t.Errorf("index %d was accepted", index)
		}
	}
}

func TestLowestFree(t *testing.T) {
	index, err := LowestFree(map[int]string{1: "demo", 3: "other"})
	if err != nil || index != 2 {
		t.Errorf("got %d, %v; want 2", index, err)
	}
	full := map[int]string{}
	for i := MinIndex; i <= MaxIndex; i++ {
		full[i] = "x"
	}
	if _, err := LowestFree(full); err == nil || !strings.Contains(err.Error(), "cluster down") {
		t.Errorf("a full host gives %v, want an error with the remedy", err)
	}
}

func TestOverlapNamesTheRoute(t *testing.T) {
	plan, _ := ForIndex(1)
	route := func(destination, device string) Route {
		return Route{Destination: netip.MustParsePrefix(destination), Device: device}
	}
	harmless := []Route{
		route("0.0.0.0/0", "eth0"), route("192.168.1.0/24", "eth0"), route("10.66.0.0/16", "vlx1"), route("10.68.0.0/16", "vlx2"),
	}
	if err := plan.Overlap(harmless); err != nil {
		t.Errorf("harmless routes are refused: %v", err)
	}
	for _, destination := range []string{"10.66.7.0/24", "10.0.0.0/8", "10.201.1.128/25", "10.67.0.1/32"} {
		err := plan.Overlap(append(harmless, route(destination, "tun0")))
		if err == nil || !strings.Contains(err.Error(), destination) || !strings.Contains(err.Error(), "tun0") {
			t.Errorf("%s gives %v, want an error that names the route and its device", destination, err)
		}
	}
}

package volume

import (
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	provisioner = "valerix.io/local"
	node        = "demo-node-1"
)

func class() *storage.StorageClass {
	return &storage.StorageClass{ObjectMeta: meta.ObjectMeta{Name: "standard"}, Provisioner: provisioner}
}

func claim(change ...func(*core.PersistentVolumeClaim)) *core.PersistentVolumeClaim {
	name := "standard"
	made := &core.PersistentVolumeClaim{
		ObjectMeta: meta.ObjectMeta{
			Namespace: "default", Name: "data", UID: "u1", Annotations: map[string]string{selectedNode: node},
		},
		Spec: core.PersistentVolumeClaimSpec{
			StorageClassName: &name,
			AccessModes:      []core.PersistentVolumeAccessMode{core.ReadWriteOnce},
			Resources: core.VolumeResourceRequirements{
				Requests: core.ResourceList{core.ResourceStorage: resource.MustParse("1Gi")},
			},
		},
	}
	for _, apply := range change {
		apply(made)
	}
	return made
}

func TestJudge(t *testing.T) {
	block := core.PersistentVolumeBlock
	for name, check := range map[string]struct {
		claim *core.PersistentVolumeClaim
		class *storage.StorageClass
		want  Verdict
	}{
		"a claim whose pod was placed here": {claim(), class(), Create},
		"a claim that waits for its pod": {claim(func(c *core.PersistentVolumeClaim) {
			c.Annotations = nil
		}), class(), Leave},
		"a claim of another node": {claim(func(c *core.PersistentVolumeClaim) {
			c.Annotations[selectedNode] = "demo-node-2"
		}), class(), Leave},
		"a bound claim": {claim(func(c *core.PersistentVolumeClaim) {
			c.Spec.VolumeName = "pvc-u1"
		}), class(), Leave},
		"a class that is not there":   {claim(), nil, Leave},
		"another provisioner's class": {claim(), &storage.StorageClass{Provisioner: "other"}, Leave},
		"a block device": {claim(func(c *core.PersistentVolumeClaim) {
			c.Spec.VolumeMode = &block
		}), class(), Refuse},
		"a shared volume": {claim(func(c *core.PersistentVolumeClaim) {
			c.Spec.AccessModes = append(c.Spec.AccessModes, core.ReadWriteMany)
		}), class(), Refuse},
		"a copy": {claim(func(c *core.PersistentVolumeClaim) {
			c.Spec.DataSource = &core.TypedLocalObjectReference{Name: "snapshot"}
		}), class(), Refuse},
	} {
		got, reason := Judge(check.claim, check.class, provisioner, node)
		if got != check.want || (got == Refuse) != (reason != "") {
			t.Errorf("%s: got %v (%q), want %v", name, got, reason, check.want)
		}
	}
}

func TestTheVolumeFitsItsClaim(t *testing.T) {
	volume := Build(claim(), class(), node, "/volumes")
	if err := func() error { _, err := Folder(volume, "/volumes"); return err }(); err != nil {
		t.Error(err)
	}
	if volume.Name != "pvc-u1" || volume.Spec.ClaimRef.UID != "u1" || volume.Spec.StorageClassName != "standard" {
		t.Errorf("it is not bound to the claim: %+v", volume)
	}
	if size := volume.Spec.Capacity[core.ResourceStorage]; size.String() != "1Gi" {
		t.Errorf("it holds %s", size.String())
	}
	if volume.Spec.PersistentVolumeReclaimPolicy != core.PersistentVolumeReclaimDelete {
		t.Errorf("without a policy it is %s", volume.Spec.PersistentVolumeReclaimPolicy)
	}
	if !on(volume, node) || on(volume, "demo-node-2") {
		t.Error("it is not tied to its node")
	}
}

func TestJudgeEnd(t *testing.T) {
	deleted := meta.Now()
	volume := func(phase core.PersistentVolumePhase, change ...func(*core.PersistentVolume)) *core.PersistentVolume {
		made := Build(claim(), class(), node, "/volumes")
		made.Status.Phase = phase
		for _, apply := range change {
			apply(made)
		}
		return made
	}
	retain := func(v *core.PersistentVolume) {
		v.Spec.PersistentVolumeReclaimPolicy = core.PersistentVolumeReclaimRetain
	}
	deleting := func(v *core.PersistentVolume) { v.DeletionTimestamp = &deleted }
	stranger := func(v *core.PersistentVolume) { v.Annotations = nil }

	for name, check := range map[string]struct {
		volume *core.PersistentVolume
		node   string
		want   End
	}{
		"in use":                             {volume(core.VolumeBound), node, Keep},
		"in use, deletion asked for":         {volume(core.VolumeBound, deleting), node, Keep},
		"just made":                          {volume(core.VolumePending), node, Keep},
		"released":                           {volume(core.VolumeReleased), node, RemoveAll},
		"released on another node":           {volume(core.VolumeReleased), "demo-node-2", Keep},
		"released, to be retained":           {volume(core.VolumeReleased, retain), node, Keep},
		"retained, then deleted by a person": {volume(core.VolumeReleased, retain, deleting), node, DropFinalizer},
		"deleted before it was used":         {volume(core.VolumeAvailable, deleting), node, RemoveAll},
		"somebody else's":                    {volume(core.VolumeReleased, stranger), node, Keep},
	} {
		if got := JudgeEnd(check.volume, provisioner, check.node); got != check.want {
			t.Errorf("%s: got %v, want %v", name, got, check.want)
		}
	}
}

func TestAFolderElsewhereIsLeftAlone(t *testing.T) {
	for _, path := range []string{"/", "/volumes", "/volumes/other", "/volumes/pvc-u1/../../etc"} {
		volume := Build(claim(), class(), node, "/volumes")
		volume.Spec.Local.Path = path
		if _, err := Folder(volume, "/volumes"); err == nil || !strings.Contains(err.Error(), "left alone") {
			t.Errorf("%s: got %v", path, err)
		}
	}
	escaping := Build(claim(), class(), node, "/volumes")
	escaping.Name, escaping.Spec.Local.Path = "..", "/"
	if folder, err := Folder(escaping, "/volumes"); err == nil {
		t.Errorf("the folder would be %s", folder)
	}
}

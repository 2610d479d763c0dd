package volume

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never seen: %s", what)
		}
	}
}

func TestAClaimGetsAFolderAndItsEndTakesIt(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir := filepath.Join(t.TempDir(), "volumes")
	// The class comes last, as it does in a cluster whose addons are applied while its volumes already run.
	client := fake.NewClientset(claim())
	go New(client, provisioner, node, dir).Run(ctx)
	if _, err := client.StorageV1().StorageClasses().Create(ctx, class(), meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	volumes := client.CoreV1().PersistentVolumes()
	var volume *core.PersistentVolume
	eventually(t, "a volume", func() (found bool) {
		made, err := volumes.Get(ctx, "pvc-u1", meta.GetOptions{})
		volume = made
		return err == nil
	})
	folder := filepath.Join(dir, "pvc-u1")
	info, err := os.Stat(folder)
	if err != nil || info.Mode().Perm() != 0o777 || volume.Spec.Local.Path != folder {
		t.Fatalf("folder %v, %v; volume at %s", info, err, volume.Spec.Local.Path)
	}
	if err := os.WriteFile(filepath.Join(folder, "row"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}

	volume.Status.Phase = core.VolumeReleased
	if _, err := volumes.UpdateStatus(ctx, volume, meta.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no volume", func() bool {
		left, err := volumes.List(ctx, meta.ListOptions{})
		return err == nil && len(left.Items) == 0
	})
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestARefusalIsToldToTheOwnerOfTheClaim(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := fake.NewClientset(class(), claim(func(c *core.PersistentVolumeClaim) {
		c.Spec.AccessModes = []core.PersistentVolumeAccessMode{core.ReadWriteMany}
	}))
	go New(client, provisioner, node, t.TempDir()).Run(ctx)
	eventually(t, "an event", func() bool {
		events, err := client.CoreV1().Events("default").List(ctx, meta.ListOptions{})
		return err == nil && len(events.Items) == 1 && events.Items[0].Reason == "ProvisioningFailed"
	})
	volumes, err := client.CoreV1().PersistentVolumes().List(ctx, meta.ListOptions{})
	if err != nil || len(volumes.Items) != 0 {
		t.Errorf("%d volumes, %v", len(volumes.Items), err)
	}
}

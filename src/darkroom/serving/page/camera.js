// A picture from the camera: in the page if the browser allows it, otherwise with the phone's own camera app.

import { find } from "./dom.js";

export function watch(take) {
  const dialog = find("camera-dialog");
  const video = find("video");
  const shoot = find("shoot");
  const trouble = find("camera-trouble");
  let stream = null;

  async function open() {
    // Browsers allow the camera only to pages of this machine and to https.
    if (!navigator.mediaDevices?.getUserMedia) return find("photo").click();
    trouble.hidden = true;
    shoot.disabled = true;
    dialog.showModal();
    try {
      const found = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      if (!dialog.open) return stop(found);
      stream = found;
      video.srcObject = stream;
      await video.play();
      shoot.disabled = false;
      shoot.focus();
    } catch (problem) {
      trouble.textContent =
        problem.name === "NotAllowedError"
          ? "The browser does not allow this page to use the camera."
          : "No camera is available.";
      trouble.hidden = false;
    }
  }

  const stop = (opened) => opened?.getTracks().forEach((track) => track.stop());

  function close() {
    stop(stream);
    stream = video.srcObject = null;
  }

  function capture() {
    const frame = document.createElement("canvas");
    frame.width = video.videoWidth;
    frame.height = video.videoHeight;
    frame.getContext("2d").drawImage(video, 0, 0);
    frame.toBlob((file) => take(new File([file], "camera.jpg", { type: file.type })), "image/jpeg", 0.95);
    dialog.close();
  }

  find("camera").addEventListener("click", open);
  find("camera-close").addEventListener("click", () => dialog.close());
  shoot.addEventListener("click", capture);
  dialog.addEventListener("close", close);
}

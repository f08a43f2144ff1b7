"use strict";
// Posing a head: the same linear blend skinning as HeadModel.pose and the placement of schemas/heads.py, per frame.
const Pose = (() => {
  const TYPES = { f4: Float32Array, i2: Int16Array, i1: Int8Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };

  function bytes(text) {
    const raw = atob(text);
    const out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out;
  }

  function unpack(spec) {
    const array = new TYPES[spec.t](bytes(spec.d).buffer);
    array.shape = spec.s;
    return array;
  }

  function unpackModes(spec) {
    const q = unpack(spec.q), scale = unpack(spec.scale);
    const [count, vertices] = q.shape;
    const size = vertices * 3, out = new Float32Array(q.length);
    for (let k = 0; k < count; k++) for (let i = 0; i < size; i++) out[k * size + i] = q[k * size + i] * scale[k];
    return { values: out, count, size };
  }

  // Rodrigues: axis-angle at offset o of v -> row-major 3x3.
  function rotation(v, o) {
    const x = v[o], y = v[o + 1], z = v[o + 2];
    const angle2 = x * x + y * y + z * z, angle = Math.sqrt(angle2), small = angle2 < 1e-12;
    const a = small ? 1 - angle2 / 6 : Math.sin(angle) / angle;
    const b = small ? 0.5 - angle2 / 24 : (1 - Math.cos(angle)) / angle2;
    return [
      1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y,
      b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x,
      b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y),
    ];
  }

  function multiply(p, q) {
    const out = new Array(9);
    for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++)
      out[3 * i + j] = p[3 * i] * q[j] + p[3 * i + 1] * q[3 + j] + p[3 * i + 2] * q[6 + j];
    return out;
  }

  function apply(m, v) {
    return [0, 3, 6].map((r) => m[r] * v[0] + m[r + 1] * v[1] + m[r + 2] * v[2]);
  }

  const add = (p, q) => [p[0] + q[0], p[1] + q[1], p[2] + q[2]];
  const subtract = (p, q) => [p[0] - q[0], p[1] - q[1], p[2] - q[2]];

  function model(data) {
    return {
      sha256: data.sha256,
      triangles: unpack(data.triangles),
      parts: unpack(data.parts),
      weights: unpack(data.weights),
      expression: unpackModes(data.expression),
      pose: data.pose ? unpackModes(data.pose) : null,
      eyeballRadius: data.eyeball_radius,
      irisRadius: data.iris_radius,
    };
  }

  function addModes(out, modes, coefficients, offset, count) {
    for (let k = 0; k < count; k++) {
      const c = coefficients[offset + k];
      if (c === 0) continue;
      const base = k * modes.size;
      for (let i = 0; i < modes.size; i++) out[i] += c * modes.values[base + i];
    }
  }

  const finite = (array, offset, count) => {
    for (let i = 0; i < count; i++) if (!Number.isFinite(array[offset + i])) return false;
    return true;
  };

  // Is everything that the head needs known at this frame? A head is drawn only then.
  function known(person, frame) {
    const e = person.expression.shape[1];
    return person.valid[frame] === 1 && finite(person.rotation, 3 * frame, 3) &&
      finite(person.translation, 3 * frame, 3) && finite(person.expression, e * frame, e) &&
      finite(person.jaw, 3 * frame, 3) && finite(person.neck, 3 * frame, 3) && finite(person.eyes, 6 * frame, 6);
  }

  // Vertices [V, 3] in the camera frame, metres, or null where the frame was not measured.
  function vertices(head, person, frame) {
    if (!known(person, frame)) return null;
    const rest = new Float64Array(person.neutral);
    const e = person.expression.shape[1];
    addModes(rest, head.expression, person.expression, e * frame, e);
    const R = [rotation(person.neck, 3 * frame), rotation(person.jaw, 3 * frame),
      rotation(person.eyes, 6 * frame), rotation(person.eyes, 6 * frame + 3)];
    if (head.pose) {
      const features = [];
      for (const r of R) r.forEach((value, i) => features.push(value - (i % 4 === 0 ? 1 : 0)));
      addModes(rest, head.pose, features, 0, features.length);
    }
    const moving = person.joints.shape.length === 3;
    const at = (moving ? 15 * frame : 0);
    const joint = (j) => Array.from(person.joints.subarray(at + 3 * j, at + 3 * j + 3));
    const about = (r, J) => subtract(J, apply(r, J)); // rotate about this joint: J - R J
    const neckOffset = about(R[0], joint(1));
    const linear = [[1, 0, 0, 0, 1, 0, 0, 0, 1], R[0]];
    const offsets = [[0, 0, 0], neckOffset];
    for (let j = 2; j < 5; j++) {
      linear.push(multiply(R[0], R[j - 1]));
      offsets.push(add(apply(R[0], about(R[j - 1], joint(j))), neckOffset));
    }
    // Into the camera frame: scale R F (x - J_root) + t with F = diag(1, -1, -1).
    const turn = rotation(person.rotation, 3 * frame);
    const M = turn.map((value, i) => person.scale * (i % 3 === 0 ? value : -value));
    const t = Array.from(person.translation.subarray(3 * frame, 3 * frame + 3));
    const root = Array.from(person.root);
    const A = linear.map((l) => multiply(M, l));
    const B = offsets.map((o) => add(apply(M, subtract(o, root)), t));
    const count = rest.length / 3, out = new Float32Array(rest.length), w = head.weights;
    for (let v = 0; v < count; v++) {
      const x = rest[3 * v], y = rest[3 * v + 1], z = rest[3 * v + 2];
      let px = 0, py = 0, pz = 0;
      for (let j = 0; j < 5; j++) {
        const k = w[5 * v + j];
        if (k === 0) continue;
        const a = A[j], b = B[j];
        px += k * (a[0] * x + a[1] * y + a[2] * z + b[0]);
        py += k * (a[3] * x + a[4] * y + a[5] * z + b[1]);
        pz += k * (a[6] * x + a[7] * y + a[8] * z + b[2]);
      }
      out[3 * v] = px; out[3 * v + 1] = py; out[3 * v + 2] = pz;
    }
    return out;
  }

  // Area-weighted vertex normals.
  function normals(points, triangles) {
    const out = new Float32Array(points.length);
    for (let f = 0; f < triangles.length; f += 3) {
      const a = 3 * triangles[f], b = 3 * triangles[f + 1], c = 3 * triangles[f + 2];
      const ux = points[b] - points[a], uy = points[b + 1] - points[a + 1], uz = points[b + 2] - points[a + 2];
      const vx = points[c] - points[a], vy = points[c + 1] - points[a + 1], vz = points[c + 2] - points[a + 2];
      const nx = uy * vz - uz * vy, ny = uz * vx - ux * vz, nz = ux * vy - uy * vx;
      for (const i of [a, b, c]) { out[i] += nx; out[i + 1] += ny; out[i + 2] += nz; }
    }
    for (let i = 0; i < out.length; i += 3) {
      const length = Math.hypot(out[i], out[i + 1], out[i + 2]) || 1;
      out[i] /= length; out[i + 1] /= length; out[i + 2] /= length;
    }
    return out;
  }

  const PERSON_ARRAYS = ["expression", "jaw", "neck", "rotation", "translation", "eyes", "gaze", "head_centre",
    "translation_sd", "gaze_sd", "residual", "box", "confidence", "valid", "looking", "speaking",
    "neutral", "root", "joints"];

  function person(data) {
    const out = { ...data };
    for (const name of PERSON_ARRAYS) if (data[name]) out[name] = unpack(data[name]);
    return out;
  }

  return { bytes, unpack, rotation, multiply, apply, model, person, known, vertices, normals, finite };
})();
if (typeof module !== "undefined") module.exports = Pose;

"use strict";
// A small WebGL renderer: shaded heads with irises, gaze rays, uncertainty cones, a floor grid. Camera frame, metres.
const Scene = (() => {
  const MESH_VERTEX = `
    attribute vec3 position; attribute vec3 normal; attribute vec2 part; attribute vec3 look;
    uniform mat4 viewProjection; uniform vec3 eye;
    varying vec3 vNormal; varying vec3 vView; varying vec2 vPart; varying vec3 vLook;
    void main() {
      vNormal = normal; vView = eye - position; vPart = part; vLook = look;
      gl_Position = viewProjection * vec4(position, 1.0);
    }`;
  const MESH_FRAGMENT = `
    precision highp float;
    uniform vec3 tint; uniform float irisCosine; uniform vec3 light;
    varying vec3 vNormal; varying vec3 vView; varying vec2 vPart; varying vec3 vLook;
    void main() {
      vec3 v = normalize(vView), n = normalize(vNormal);
      bool inside = dot(n, v) < 0.0;
      if (inside) n = -n;
      vec3 base = mix(vec3(0.86, 0.82, 0.79), tint, 0.30);
      float gloss = 0.10, sharp = 18.0;
      if (vPart.x > 0.5) {
        float c = normalize(vLook).z;
        float soft = 0.012;
        vec3 iris = mix(tint * 0.55, vec3(0.05), smoothstep(1.0 - 0.22 * (1.0 - irisCosine) - soft, 1.0 - 0.22 * (1.0 - irisCosine), c));
        base = mix(vec3(0.97), iris, smoothstep(irisCosine - soft, irisCosine + soft, c));
        gloss = 0.5; sharp = 60.0;
      } else if (vPart.y > 0.5) {
        base = vec3(0.36, 0.16, 0.16);
      }
      if (inside && vPart.x < 0.5) base *= 0.45;
      float key = max(dot(n, light), 0.0), sky = 0.5 - 0.5 * n.y;
      float rim = pow(1.0 - max(dot(n, v), 0.0), 3.0) * 0.12;
      vec3 colour = base * (0.40 + 0.22 * sky + 0.52 * key) + gloss * pow(max(dot(n, normalize(light + v)), 0.0), sharp) - rim;
      gl_FragColor = vec4(colour, 1.0);
    }`;
  const PLAIN_VERTEX = `
    attribute vec3 position; uniform mat4 viewProjection; uniform mat4 place;
    void main() { gl_Position = viewProjection * place * vec4(position, 1.0); }`;
  const PLAIN_FRAGMENT = `
    precision mediump float; uniform vec4 colour;
    void main() { gl_FragColor = vec4(colour.rgb * colour.a, colour.a); }`;

  function program(gl, vertex, fragment) {
    const out = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(out, shader);
    }
    gl.linkProgram(out);
    if (!gl.getProgramParameter(out, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(out));
    const at = (name) => gl.getAttribLocation(out, name), uniform = (name) => gl.getUniformLocation(out, name);
    return { handle: out, at, uniform };
  }

  // Column-major 4x4 product p q.
  function product(p, q) {
    const out = new Float32Array(16);
    for (let c = 0; c < 4; c++) for (let r = 0; r < 4; r++) {
      let sum = 0;
      for (let k = 0; k < 4; k++) sum += p[4 * k + r] * q[4 * c + k];
      out[4 * c + r] = sum;
    }
    return out;
  }

  const dot = (p, q) => p[0] * q[0] + p[1] * q[1] + p[2] * q[2];
  const cross = (p, q) => [p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]];
  const scaled = (p, s) => [p[0] * s, p[1] * s, p[2] * s];
  const sum = (p, q) => [p[0] + q[0], p[1] + q[1], p[2] + q[2]];
  const difference = (p, q) => [p[0] - q[0], p[1] - q[1], p[2] - q[2]];
  const unit = (p) => scaled(p, 1 / (Math.hypot(...p) || 1));

  // View from `eye` along `forward` with `up`, all in the camera frame.
  function viewMatrix(eye, forward, up) {
    const f = unit(forward), r = unit(cross(f, up)), u = cross(r, f);
    return new Float32Array([r[0], u[0], -f[0], 0, r[1], u[1], -f[1], 0, r[2], u[2], -f[2], 0,
      -dot(r, eye), -dot(u, eye), dot(f, eye), 1]);
  }

  // sx, sy: clip units per tangent; ox, oy: shift of the image in clip units.
  function projection(sx, sy, near, far, ox = 0, oy = 0) {
    return new Float32Array([sx, 0, 0, 0, 0, sy, 0, 0, -ox, -oy, -(far + near) / (far - near), -1,
      0, 0, -2 * far * near / (far - near), 0]);
  }

  // The source's own camera: pinhole, principal point at the image centre, window = part of the image shown (pixels).
  function pinhole(pair, window, aspect) {
    const [x0, y0, x1, y1] = window;
    let w = x1 - x0, h = y1 - y0;
    if (w / h < aspect) w = h * aspect; else h = w / aspect;
    const sx = 2 * pair.focal.px / w, sy = 2 * pair.focal.px / h;
    const ox = 2 * (pair.width / 2 - (x0 + x1) / 2) / w, oy = -2 * (pair.height / 2 - (y0 + y1) / 2) / h;
    const eye = [0, 0, 0];
    return { eye, matrix: product(projection(sx, sy, 0.05, 60, ox, oy), viewMatrix(eye, [0, 0, 1], [0, -1, 0])) };
  }

  // Round the target: azimuth 0 and elevation 0 look as the camera does, elevation 90 looks down from above.
  function orbit(view, aspect) {
    const az = view.azimuth * Math.PI / 180, el = view.elevation * Math.PI / 180;
    const back = [Math.cos(el) * Math.sin(az), -Math.sin(el), -Math.cos(el) * Math.cos(az)];
    const up = [-Math.sin(el) * Math.sin(az), -Math.cos(el), Math.sin(el) * Math.cos(az)];
    const eye = sum(view.target, scaled(back, view.distance));
    const s = 1 / Math.tan(15 * Math.PI / 180);
    return { eye, matrix: product(projection(s / aspect, s, 0.05, 60), viewMatrix(eye, scaled(back, -1), up)) };
  }

  // A point in the picture, CSS pixels, or null behind the viewer.
  function project(camera, p, width, height) {
    const m = camera.matrix;
    const w = m[3] * p[0] + m[7] * p[1] + m[11] * p[2] + m[15];
    if (w < 0.02) return null;
    const x = (m[0] * p[0] + m[4] * p[1] + m[8] * p[2] + m[12]) / w;
    const y = (m[1] * p[0] + m[5] * p[1] + m[9] * p[2] + m[13]) / w;
    return [(x + 1) / 2 * width, (1 - y) / 2 * height];
  }

  // Unit solids along +z, from z = 0 to 1: a tube of radius 1, a cone with its tip at z = 1, one with its tip at 0.
  function solid(r0, r1) {
    const out = [], n = 20;
    for (let i = 0; i < n; i++) {
      const [a, b] = [i, i + 1].map((k) => 2 * Math.PI * k / n);
      const p = [Math.cos(a) * r0, Math.sin(a) * r0, 0], q = [Math.cos(b) * r0, Math.sin(b) * r0, 0];
      const s = [Math.cos(a) * r1, Math.sin(a) * r1, 1], t = [Math.cos(b) * r1, Math.sin(b) * r1, 1];
      out.push(...p, ...q, ...t, ...p, ...t, ...s, 0, 0, 0, ...q, ...p, 0, 0, 1, ...s, ...t);
    }
    return new Float32Array(out);
  }

  // Where no head model is at hand: an egg with a nose, in the model frame about the head centre.
  function placeholder() {
    const points = [], triangles = [], rows = 18, columns = 24;
    for (let i = 0; i <= rows; i++) for (let j = 0; j < columns; j++) {
      const theta = Math.PI * i / rows, phi = 2 * Math.PI * j / columns;
      const nose = Math.exp(-((theta - 1.72) ** 2) / 0.02 - ((phi - Math.PI / 2) ** 2) / 0.03) * 0.03;
      points.push(0.074 * Math.sin(theta) * Math.cos(phi), 0.11 * Math.cos(theta) - 0.01,
        -0.075 + (0.092 + nose) * Math.sin(theta) * Math.sin(phi));
      if (i < rows) {
        const a = i * columns + j, b = i * columns + (j + 1) % columns, c = a + columns, d = b + columns;
        triangles.push(a, b, c, b, d, c);
      }
    }
    return { points: new Float32Array(points), triangles: new Uint32Array(triangles) };
  }

  class View {
    constructor(canvas) {
      const gl = canvas.getContext("webgl", { antialias: true, alpha: false, preserveDrawingBuffer: true });
      if (!gl) throw new Error("This browser has no WebGL: the heads cannot be drawn. The timeline and tables work.");
      this.canvas = canvas;
      this.gl = gl;
      gl.getExtension("OES_element_index_uint");
      this.mesh = program(gl, MESH_VERTEX, MESH_FRAGMENT);
      this.plain = program(gl, PLAIN_VERTEX, PLAIN_FRAGMENT);
      this.buffers = {};
      this.solids = {};
      for (const [name, r0, r1] of [["tube", 1, 1], ["tip", 1, 0], ["spread", 0, 1]]) {
        const data = solid(r0, r1);
        this.solids[name] = { buffer: this.upload(null, data), count: data.length / 3 };
      }
    }

    upload(buffer, data, target = this.gl.ARRAY_BUFFER) {
      const gl = this.gl, out = buffer || gl.createBuffer();
      gl.bindBuffer(target, out);
      gl.bufferData(target, data, gl.DYNAMIC_DRAW);
      return out;
    }

    begin(camera, background) {
      const gl = this.gl;
      this.camera = camera;
      gl.viewport(0, 0, this.canvas.width, this.canvas.height);
      gl.clearColor(...background, 1);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.enable(gl.DEPTH_TEST);
      gl.disable(gl.BLEND);
      gl.disable(gl.CULL_FACE);
    }

    attribute(location, data, size, key) {
      const gl = this.gl;
      if (location < 0) return;
      this.buffers[key] = this.upload(this.buffers[key], data);
      gl.enableVertexAttribArray(location);
      gl.vertexAttribPointer(location, size, gl.FLOAT, false, 0, 0);
    }

    // head: {points, normals, triangles, parts (eye, inner mouth), look}; tint: RGB 0..1.
    drawHead(head, tint, irisCosine) {
      const gl = this.gl, p = this.mesh;
      gl.useProgram(p.handle);
      gl.uniformMatrix4fv(p.uniform("viewProjection"), false, this.camera.matrix);
      gl.uniform3fv(p.uniform("eye"), this.camera.eye);
      gl.uniform3fv(p.uniform("tint"), tint);
      gl.uniform3fv(p.uniform("light"), unit([-0.35, -0.75, -0.75]));
      gl.uniform1f(p.uniform("irisCosine"), irisCosine);
      this.attribute(p.at("position"), head.points, 3, "position");
      this.attribute(p.at("normal"), head.normals, 3, "normal");
      this.attribute(p.at("part"), head.parts, 2, "part");
      this.attribute(p.at("look"), head.look, 3, "look");
      this.buffers.index = this.upload(this.buffers.index, head.triangles, gl.ELEMENT_ARRAY_BUFFER);
      gl.drawElements(gl.TRIANGLES, head.triangles.length, gl.UNSIGNED_INT, 0);
      for (const name of ["position", "normal", "part", "look"]) if (p.at(name) >= 0) gl.disableVertexAttribArray(p.at(name));
    }

    plainDraw(buffer, count, mode, place, colour) {
      const gl = this.gl, p = this.plain, at = p.at("position");
      gl.useProgram(p.handle);
      gl.uniformMatrix4fv(p.uniform("viewProjection"), false, this.camera.matrix);
      gl.uniformMatrix4fv(p.uniform("place"), false, place);
      gl.uniform4fv(p.uniform("colour"), colour);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, 3, gl.FLOAT, false, 0, 0);
      const clear = colour[3] < 1;
      if (clear) { gl.enable(gl.BLEND); gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA); gl.depthMask(false); }
      gl.drawArrays(mode, 0, count);
      if (clear) { gl.disable(gl.BLEND); gl.depthMask(true); }
      gl.disableVertexAttribArray(at);
    }

    // A solid from `start` along the unit vector `along`.
    drawSolid(name, start, along, length, radius, colour) {
      const side = unit(cross(Math.abs(along[1]) < 0.9 ? [0, 1, 0] : [1, 0, 0], along)), other = cross(along, side);
      const place = new Float32Array([...scaled(side, radius), 0, ...scaled(other, radius), 0,
        ...scaled(along, length), 0, ...start, 1]);
      this.plainDraw(this.solids[name].buffer, this.solids[name].count, this.gl.TRIANGLES, place, colour);
    }

    drawLines(points, colour) {
      this.lines = this.upload(this.lines, new Float32Array(points));
      const identity = new Float32Array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
      this.plainDraw(this.lines, points.length / 3, this.gl.LINES, identity, colour);
    }
  }

  return { View, pinhole, orbit, project, placeholder, dot, cross, scaled, sum, difference, unit };
})();
if (typeof module !== "undefined") module.exports = Scene;

import tailwindcss from '@tailwindcss/vite';
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';
import { VitePWA } from 'vite-plugin-pwa';

/** Where `npm run dev` finds a node. */
const NODE = process.env.CLINICMESH_NODE ?? 'http://127.0.0.1:8480';
const PROXY = Object.fromEntries(['/api', '/oauth', '/healthz'].map((path) => [path, { target: NODE }]));

/** What other apps may hand over. Names and types lie, so what it is is looked at here. */
const SHARED = ['image/jpeg', 'image/png', 'application/pdf', 'application/zip', 'application/dicom', '.dcm'];

export default defineConfig({
  define: { __APP_VERSION__: JSON.stringify(process.env.npm_package_version ?? 'unknown') },
  plugins: [
    react(),
    tailwindcss(),
    VitePWA({
      strategies: 'injectManifest',
      srcDir: 'src',
      filename: 'sw.ts',
      // The app registers the worker itself, through its Trusted Types policy.
      injectRegister: false,
      registerType: 'prompt',
      injectManifest: { globPatterns: ['**/*.{js,css,html,svg,png,webmanifest}'] },
      manifest: {
        id: '/',
        name: 'ClinicMesh',
        short_name: 'ClinicMesh',
        description: 'Hand in a study and walk away. It reaches the hospital by itself.',
        start_url: '/',
        scope: '/',
        display: 'standalone',
        share_target: {
          action: '/share',
          method: 'POST',
          enctype: 'multipart/form-data',
          params: { files: [{ name: 'files', accept: SHARED }] },
        },
        background_color: '#f4f7f6',
        theme_color: '#0f5f5c',
        icons: [
          { src: '/icons/icon-192.png', sizes: '192x192', type: 'image/png' },
          { src: '/icons/icon-512.png', sizes: '512x512', type: 'image/png' },
          { src: '/icons/maskable-512.png', sizes: '512x512', type: 'image/png', purpose: 'maskable' },
          { src: '/icons/icon.svg', sizes: 'any', type: 'image/svg+xml' },
        ],
      },
    }),
  ],
  worker: { format: 'es' },
  // The node's policy allows no data: addresses, so nothing may be inlined.
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: { proxy: PROXY },
});
